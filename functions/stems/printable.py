"""Strangers' words on lines of ours: a song may be called what ends a line, steers a terminal or turns its order."""

import json
import unicodedata

_STEERING = frozenset({"Cc", "Cs", "Zl", "Zp"})  # controls, halves of characters, separators of lines
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the order of what stands beside them


def harms(character: str) -> bool:
    """Tell whether a character does something to the text around it. Joiners, as in emoji, and marks do not."""
    return character in _TURNING or unicodedata.category(character) in _STEERING


def replaced(text: str, by: str) -> str:
    """Return `text` with `by` in place of each character that harms."""
    return "".join(by if harms(c) else c for c in text)


def escaped(text: str) -> str:
    """Return `text` with `\\x1b` and the like in place of whatever cannot be seen."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_json(data: object, *, indent: int | None = None) -> str:
    """Return JSON for eyes, too: letters of all scripts as they are, what harms escaped."""
    text = json.dumps(data, default=str, ensure_ascii=False, indent=indent)
    return "".join(json.dumps(c)[1:-1] if harms(c) and c != "\n" else c for c in text)  # in JSON, a raw \n is between
