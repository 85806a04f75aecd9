"""Strangers' words on lines of ours: a song may be called what ends a line, steers a terminal or turns its order."""

import json
import re

# Controls, separators of lines, halves of characters, and what turns the order of the words beside it: U+202A to U+202E
# and U+2066 to U+2069. Joiners, as in emoji, and marks are part of the words.
_HARM = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HARM_IN_JSON = re.compile(_HARM.pattern.replace("\x00-\x1f", ""))  # JSON has none of these, or between its values


def harms(character: str) -> bool:
    """Tell whether a character does something to the text around it."""
    return _HARM.fullmatch(character) is not None


def replaced(text: str, by: str) -> str:
    """Return `text` with `by` in place of each character that harms."""
    return _HARM.sub(by, text)


def escaped(text: str) -> str:
    """Return `text` with `\\x1b` and the like in place of whatever cannot be seen."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_json(data: object, *, indent: int | None = None) -> str:
    """Return JSON for eyes, too: letters of all scripts as they are, what harms escaped."""
    return in_json(json.dumps(data, default=str, ensure_ascii=False, indent=indent))


def in_json(text: str) -> str:
    """Return the JSON `text` with what harms escaped: it means the same."""
    return _HARM_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
