"""What changed, as it changes: a Redis stream of which clients are told by Server-Sent Events.

A stream, not publish/subscribe: its ids are the `Last-Event-ID` of clients, so that whoever comes back, to this process
or another one, gets what was told meanwhile. An entry names what changed (`kind`, `id`); what is true of it is read
when it is told. The stream is cut at a length: who was away for longer is told to look anew.
"""

from collections.abc import Iterable
from typing import Any

from stems import naming

LENGTH = 4096

# Before a script that tells. Nothing that goes wrong with the news may hold up a song: hence pcall.
LUA = f"""
local function tell(kind, id)
  redis.pcall('XADD', '{naming.EVENTS}', 'MAXLEN', '~', {LENGTH}, '*', 'kind', kind, 'id', id)
end
"""

Entry = tuple[str, str, str]  # id of the entry, kind, id of what changed


def tell(pipe: Any, kind: str, identity: str) -> None:
    """Tell of a track (`track`, `removed`) as part of a pipeline of Redis commands."""
    pipe.xadd(naming.EVENTS, {"kind": kind, "id": identity}, maxlen=LENGTH, approximate=True)


def position(entry: str) -> tuple[int, int]:
    """Return the place of an entry in the stream. Raises ValueError for what is no id of an entry."""
    milliseconds, dash, count = entry.partition("-")
    if not dash or not all(part.isascii() and part.isdecimal() and len(part) < 20 for part in (milliseconds, count)):
        raise ValueError(f"{entry!r} is no id of an event")
    return int(milliseconds), int(count)


def entries(found: Iterable[tuple[str, dict[str, str]]]) -> list[Entry]:
    """Read entries as Redis gives them; strange ones are left out."""
    return [(entry, data["kind"], data["id"]) for entry, data in found if data and {"kind", "id"} <= data.keys()]


def latest(found: Iterable[Entry]) -> list[Entry]:
    """Return only the last entry about each thing, in order: what was true in between need not be told."""
    last: dict[tuple[str, str], Entry] = {}
    for entry in found:
        thing = ("job" if entry[1] == "job" else "track", entry[2])
        last.pop(thing, None)
        last[thing] = entry
    return list(last.values())
