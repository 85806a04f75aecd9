"""What a request asks for in its path, and the options of a song; what is wrong is named with its value."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

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
    """Return what a song is to become as the metadata of its upload. Raises BadOptions, BadRequest."""
    metadata = {}
    for name in ("model", "stems", "format", "callback"):
        value = given.get(name) or ""
        text = value if isinstance(value, str) else ",".join(value)
        if text.strip():
            metadata[f"x-amz-meta-{name}"] = text.strip()
    Options.from_metadata(metadata)
    _check_url(metadata.get("x-amz-meta-callback"))
    return metadata


def _check_url(text: str | None) -> None:
    """Raise BadRequest unless `text` is an address that can stand in a header."""
    if text is None:
        return
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and text.isascii() and text.isprintable()
    except ValueError:
        good = False
    if not good or len(text) > 1024 or " " in text:
        raise BadRequest(f"callback={text[:200]}: must be an http:// or https:// address in ASCII")
