"""What a request asks for in its path, and the options of a song; what is wrong is named with its value."""

from collections.abc import Mapping
from typing import Any

from werkzeug.exceptions import BadRequest

from stems import naming
from stems.options import Options


def songhash(text: str) -> str:
    """Return `text` when it is a song hash. Raises BadRequest."""
    if not naming.is_songhash(text):
        raise BadRequest(f"songhash={text}: must be a SHA-256 as 64 hex digits in lower case")
    return text


def job(text: str) -> str:
    """Return `text` when it could be the id of a job. Raises BadRequest."""
    if len(text) != 32 or not set(text) <= set("0123456789abcdef"):
        raise BadRequest(f"job={text}: must be 32 hex digits in lower case")
    return text


def options(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what a song is to become, as `schemas` checks it, as the metadata of its upload. Raises BadOptions."""
    metadata = {}
    for name in ("model", "stems", "format", "callback"):
        value = given.get(name)
        if value:
            metadata[f"x-amz-meta-{name}"] = value if isinstance(value, str) else ",".join(value)
    Options.from_metadata(metadata)
    return metadata
