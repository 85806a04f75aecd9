"""What stands for a track among the names of the index: its folded name, the time counted backwards, its song hash.

Sorted as bytes, tracks whose name begins with a text are one range, and of one name the newest come first.
"""

import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress

from stems.record import Track

_LAST_MS = 10**14 - 1


def fold(name: str) -> str:
    """Return a name as it is searched by: without regard to case and to how its accents are written."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return composed.replace("\0", " ")


def of(track: Track) -> str:
    """Return the entry of a track."""
    return f"{fold(track.name)}\0{_LAST_MS - track.created_ms:014}\0{track.songhash}"


def songhash(entry: str) -> str:
    """Return the song hash of an entry."""
    return entry.rpartition("\0")[2]


def created_ms(entry: str) -> int:
    """Return when the track of an entry was made, milliseconds since 1970."""
    return _LAST_MS - int(entry.split("\0")[-2])


def to_cursor(entry: str) -> str:
    """Return the cursor that names an entry."""
    return urlsafe_b64encode(entry.encode()).decode()


def from_cursor(cursor: str, begin: bytes) -> bytes:
    """Return the entry that a cursor names, of a search for what begins with `begin`. Raises ValueError."""
    with suppress(ValueError):
        entry = urlsafe_b64decode(cursor.encode("ascii"))
        parts = entry.split(b"\0")
        if entry.startswith(begin) and len(parts) == 3 and parts[1].isdigit() and len(parts[2]) == 64:
            return entry
    raise ValueError(f"cursor={cursor}: was not made by this search")
