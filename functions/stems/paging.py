"""Pages of a sorted set in Redis whose scores are times: newest first, and what arrives meanwhile moves nothing."""

import re
from collections.abc import Iterable
from typing import Any

_CURSOR = re.compile(r"([0-9]{1,15})-([0-9a-f]{32,64})")

Entry = tuple[str, float]  # a member and its time, milliseconds since 1970


def position(cursor: str) -> tuple[int, str]:
    """Return time (milliseconds since 1970) and member that a cursor names. Raises ValueError."""
    match = _CURSOR.fullmatch(cursor)
    if not match:
        raise ValueError(f"cursor={cursor}: was not made by this list")
    return int(match[1]), match[2]


def to_cursor(entry: Entry) -> str:
    """Return the cursor that asks for what comes after an entry."""
    return f"{int(entry[1])}-{entry[0]}"


def after(client: Any, key: str, cursor: str | None, count: int, since_ms: int | None) -> list[Entry]:
    """Return `count` entries behind a cursor, none older than `since_ms`, in one step: what arrives must not shift it.

    Raises ValueError for what is no cursor.
    """
    begin = position(cursor) if cursor is not None else None
    pipe = client.pipeline()
    newest, oldest = "+inf" if begin is None else f"({begin[0]}", "-inf" if since_ms is None else since_ms
    pipe.zrevrangebyscore(key, newest, oldest, start=0, num=count, withscores=True)
    if begin is not None:
        # Of the same millisecond: those whose name is smaller, which sorts behind.
        pipe.zrevrangebyscore(key, begin[0], begin[0], withscores=True)
    older, *rest = pipe.execute()
    same = [(name, time) for name, time in rest[0] if name < begin[1]] if begin else []
    if since_ms is not None:
        same = [(name, time) for name, time in same if time >= since_ms]
    return [*same, *((name, time) for name, time in older)][:count]


def among(entries: Iterable[Entry], cursor: str | None, count: int, since_ms: int | None) -> list[Entry]:
    """Return what `after` returns, of entries that stand in no sorted set."""
    begin = position(cursor) if cursor is not None else None
    sorted_entries = sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=True)
    behind = [entry for entry in sorted_entries if begin is None or (entry[1], entry[0]) < begin]
    return [entry for entry in behind if since_ms is None or entry[1] >= since_ms][:count]
