"""The index of tracks in Redis: newest first, in pages. Rebuilt from the bucket whenever Redis has lost it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import redis

from stems import naming
from stems.errors import StateUnavailable, UnknownTrack
from stems.jobs import translated
from stems.record import Track
from stems.storage import Storage

_log = logging.getLogger(__name__)

_REBUILD_LOCK_S = 60
_REBUILD_THREADS = 16


@dataclass(frozen=True, slots=True)
class Page:
    """Some tracks, newest first; `cursor` asks for the next ones, None at the end."""

    tracks: tuple[Track, ...]
    cursor: str | None


class Index:
    """The index; `storage` is asked only to rebuild it."""

    def __init__(self, client: redis.Redis, storage: Storage) -> None:
        self._redis: Any = client  # redis-py's types do not know of decode_responses
        self._storage = storage

    def add(self, track: Track) -> None:
        """Enter a track, or replace what the index says of it."""
        with translated():
            pipe = self._redis.pipeline()
            pipe.set(naming.track_key(track.songhash), track.to_json())
            pipe.zadd(naming.TRACKS, {track.songhash: track.created_ms})
            pipe.execute()

    def forget(self, songhash: str) -> None:
        """Strike out a track whose record is not there any more."""
        with translated():
            pipe = self._redis.pipeline()
            pipe.delete(naming.track_key(songhash))
            pipe.zrem(naming.TRACKS, songhash)
            pipe.execute()

    def page(self, limit: int, cursor: str | None = None) -> Page:
        """Return `limit` tracks after `cursor`. Raises ValueError for a cursor that this index did not make.

        A cursor names the last track seen, so that tracks which arrive meanwhile move nothing.
        """
        position = _position(cursor) if cursor is not None else None
        self._ensure_complete()
        with translated():
            found = self._after(position, limit + 1)
            keys = [naming.track_key(songhash) for songhash, _ in found[:limit]]
            texts = self._redis.mget(keys) if keys else []
        tracks = tuple(track for text in texts if (track := _read(text)))
        if len(found) <= limit:
            return Page(tracks, None)
        songhash, created = found[limit - 1]
        return Page(tracks, f"{int(created)}-{songhash}")

    def _after(self, position: tuple[int, str] | None, count: int) -> list[tuple[str, float]]:
        """Return song hash and time of the tracks behind a position, in one step: what arrives must not shift it."""
        pipe = self._redis.pipeline()
        newest = "+inf" if position is None else f"({position[0]}"
        pipe.zrevrangebyscore(naming.TRACKS, newest, "-inf", start=0, num=count, withscores=True)
        if position is not None:
            pipe.zrevrangebyscore(naming.TRACKS, position[0], position[0], withscores=True)
        older, *rest = pipe.execute()
        same = [(songhash, time) for songhash, time in rest[0] if songhash < position[1]] if position else []
        return [*same, *((songhash, time) for songhash, time in older)][:count]

    def _ensure_complete(self) -> None:
        """Read all records from the bucket unless that was done since Redis was last emptied."""
        with translated():
            if self._redis.exists(naming.TRACKS_COMPLETE):
                return
            lock = f"{naming.TRACKS_COMPLETE}:lock"
            if not self._redis.set(lock, "1", nx=True, ex=_REBUILD_LOCK_S):
                raise StateUnavailable("the list of tracks is being rebuilt from the bucket", retry_after_s=1)
        try:
            count = 0
            with ThreadPoolExecutor(_REBUILD_THREADS) as pool:
                for track in pool.map(self._read, self._storage.records()):
                    if track:
                        self.add(track)
                        count += 1
            with translated():
                self._redis.set(naming.TRACKS_COMPLETE, "1")
            _log.info("read %d tracks from the bucket into the index", count)
        finally:
            with translated():
                self._redis.delete(lock)

    def _read(self, songhash: str) -> Track | None:
        try:
            return self._storage.track(songhash)
        except UnknownTrack as error:
            _log.warning("not in the list of tracks: %s", error)  # removed since it was listed, or no record at all
            return None


def _position(cursor: str) -> tuple[int, str]:
    """Return time (milliseconds since 1970) and song hash of the track that a cursor names."""
    created, _, songhash = cursor.partition("-")
    if not (created.isascii() and created.isdecimal() and len(created) < 16 and naming.is_songhash(songhash)):
        raise ValueError(f"cursor={cursor}: was not made by this list")
    return int(created), songhash


def _read(text: str | None) -> Track | None:
    """Read a record out of the index; None for one that is gone or that another version of this program wrote."""
    try:
        return Track.from_json(text) if text else None
    except ValueError as error:
        _log.warning("left out of the list of tracks: %s", error)
        return None
