"""What a request asks for in its path and query; anything wrong is a 400 that names the parameter and its value."""

from flask import request
from werkzeug.exceptions import BadRequest

from stems import naming


def limit(default: int, maximum: int = 1000) -> int:
    """Return `?limit=`, from 1 to `maximum`. Raises BadRequest."""
    text = request.args.get("limit")
    if text is None:
        return default
    # int() would take blanks, signs, underscores and the digits of other scripts, too.
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= maximum):
        raise BadRequest(f"limit={text}: must be a whole number from 1 to {maximum}")
    return int(text)


def flag(name: str) -> bool:
    """Return a parameter that is 0 (as when it is left out) or 1. Raises BadRequest."""
    text = request.args.get(name, "0")
    if text not in {"0", "1"}:
        raise BadRequest(f"{name}={text}: must be 0 or 1")
    return text == "1"


def songhash(text: str) -> str:
    """Return `text` when it is a song hash. Raises BadRequest."""
    if not naming.is_songhash(text):
        raise BadRequest(f"songhash={text}: must be a SHA-256 as 64 hex digits in lower case")
    return text
