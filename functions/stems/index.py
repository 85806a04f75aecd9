"""The index of tracks in Redis: newest first, and by name. Rebuilt from the bucket whenever Redis has lost it.

Both orders are sorted sets, of which a page is a range: its cost does not grow with the number of tracks. In that of
the names (see `entries`) all have one score, so that Redis sorts them as bytes.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from stems import entries, naming, news, paging
from stems.errors import StateUnavailable, StemsError, UnknownTrack
from stems.jobs import translated
from stems.options import COMPLEMENT
from stems.record import Track
from stems.storage import Storage

_log = logging.getLogger(__name__)

_LOCK = f"{naming.TRACKS_COMPLETE}:lock"
_REBUILD_LOCK_S = 60
_REBUILD_WAIT_S = 5.0
_REBUILD_LOOK_S = 0.02
_REBUILD_THREADS = 16
_SCANNED = 5000  # so many names are looked at for one page of a search that is limited in time
_CHECK_S = 60.0  # so often, and not more often, is a track that is shown looked for in the bucket
_CHECKED = 20_000
_OLDEST = 20


@dataclass(frozen=True, slots=True)
class Page:
    """Some tracks; `cursor` asks for the next ones, None at the end."""

    tracks: tuple[Track, ...]
    cursor: str | None


class Index:
    """The index; `storage` is asked to rebuild it, and whether what it shows is still there."""

    def __init__(self, client: redis.Redis, storage: Storage) -> None:
        self._redis: Any = client  # redis-py's types do not know of decode_responses
        self._storage = storage
        self._background = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._checked: OrderedDict[str, float] = OrderedDict()
        self._checking = threading.Lock()

    def add(self, track: Track, *, news_of_it: bool = True) -> None:
        """Enter a track, or replace what the index says of it."""
        key = naming.track_key(track.songhash)

        def enter(pipe: Any) -> None:
            before, models = _read(pipe.get(key)), _model(track, pipe.hget(naming.MODELS, track.model.name))
            pipe.multi()
            if before and entries.of(before) != entries.of(track):
                pipe.zrem(naming.TRACK_NAMES, entries.of(before))
            pipe.set(key, track.to_json())
            pipe.zadd(naming.TRACKS, {track.songhash: track.created_ms})
            pipe.zadd(naming.TRACK_NAMES, {entries.of(track): 0})
            pipe.hset(naming.MODELS, track.model.name, models)
            if news_of_it:
                news.tell(pipe, "track", track.songhash)

        with translated():
            self._redis.transaction(enter, key)

    def forget(self, songhash: str) -> None:
        """Strike out a track whose record is not there any more."""
        key = naming.track_key(songhash)

        def strike(pipe: Any) -> None:
            before = _read(pipe.get(key))
            known = pipe.zscore(naming.TRACKS, songhash) is not None
            pipe.multi()
            pipe.delete(key)
            pipe.zrem(naming.TRACKS, songhash)
            if before:
                pipe.zrem(naming.TRACK_NAMES, entries.of(before))
            if known:
                news.tell(pipe, "removed", songhash)

        with translated():
            self._redis.transaction(strike, key)

    def get(self, songhashes: Iterable[str]) -> list[Track]:
        """Return those of these tracks that the index has."""
        keys = [naming.track_key(songhash) for songhash in songhashes]
        with translated():
            texts = self._redis.mget(keys) if keys else []
        return [track for text in texts if (track := _read(text))]

    def announce(self, model: str, sources: Iterable[str], note: str) -> None:
        """Enter the model of a worker that has started: the one for songs that name none."""
        with translated():
            pipe = self._redis.pipeline()
            pipe.set(naming.MODEL, model)
            pipe.hset(naming.MODELS, model, _known_model(sources, note))
            pipe.execute()

    def default_model(self) -> str | None:
        """Return the model that was announced last; None where that is not known."""
        with translated():
            name: str | None = self._redis.get(naming.MODEL)
        return name

    def models(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each model that was announced or has made a track: its sources and a note."""
        self._ensure_complete()
        with translated():
            found = self._redis.hgetall(naming.MODELS)
        return {name: json.loads(text) for name, text in sorted(found.items())}

    def page(self, limit: int, cursor: str | None = None, since_ms: int | None = None) -> Page:
        """Return `limit` tracks after `cursor`, newest first, none older than `since_ms`.

        Raises ValueError for a cursor that this index did not make. A cursor names the last track seen, so that tracks
        which arrive meanwhile move nothing.
        """
        self._ensure_complete()
        with translated():
            found = paging.after(self._redis, naming.TRACKS, cursor, limit + 1, since_ms)
        tracks = self.get(songhash for songhash, _ in found[:limit])
        return Page(tuple(tracks), paging.to_cursor(found[limit - 1]) if len(found) > limit else None)

    def search(self, prefix: str, limit: int, cursor: str | None = None, since_ms: int | None = None) -> Page:
        """Return `limit` tracks whose name begins with `prefix` after `cursor`, by name, of one name newest first.

        With `since_ms` there may be fewer although there is a cursor: a page looks at so many names, and not at more.
        Raises ValueError for a cursor that this search did not make.
        """
        begin = entries.fold(prefix).encode()
        after = entries.from_cursor(cursor, begin) if cursor is not None else None
        self._ensure_complete()
        count = limit + 1 if since_ms is None else _SCANNED
        start = b"[" + begin if after is None else b"(" + after
        with translated():
            found = self._redis.zrange(
                naming.TRACK_NAMES, start, b"[" + begin + b"\xff", bylex=True, offset=0, num=count
            )
        shown = [entry for entry in found if since_ms is None or entries.created_ms(entry) >= since_ms][:limit]
        tracks = {track.songhash: track for track in self.get(map(entries.songhash, shown))}
        # An entry may be older than the record: two wrote at once. It is no more than a hint.
        right = [
            track for entry in shown if (track := tracks.get(entries.songhash(entry))) and entries.of(track) == entry
        ]
        # With all of them shown, what follows is behind the last one looked at; else behind the last one shown.
        last = shown[-1] if len(shown) == limit else found[-1] if len(found) == count else None
        more = last is not None and (last != found[-1] or len(found) == count)
        return Page(tuple(right), entries.to_cursor(last) if more and last else None)

    def check(self, tracks: Iterable[Track]) -> None:
        """Look, later, whether tracks that were shown are still in the bucket, and strike out those that are not.

        Objects expire and are removed by hand, and nobody says so. The oldest tracks are looked at beside them, as
        expiry begins there.
        """
        now = time.monotonic()
        with self._checking:
            due = [t.songhash for t in tracks if now - self._checked.get(t.songhash, -_CHECK_S) >= _CHECK_S]
            if now - self._checked.get("", -_CHECK_S) >= _CHECK_S:
                due.append("")
            for songhash in due:
                self._checked[songhash] = now
                self._checked.move_to_end(songhash)
            while len(self._checked) > _CHECKED:
                self._checked.popitem(last=False)
        if due:
            self._background.submit(self._check, due)

    def _check(self, songhashes: list[str]) -> None:
        # Whatever is away now is looked at another time.
        with suppress(StemsError):
            for songhash in songhashes:
                if songhash:
                    self._strike_if_gone(songhash)
                else:
                    self._check_oldest()

    def _check_oldest(self) -> None:
        gone = True
        while gone:
            with translated():
                oldest = self._redis.zrange(naming.TRACKS, 0, _OLDEST - 1)
            gone = bool(oldest) and all([self._strike_if_gone(songhash) for songhash in oldest])

    def _strike_if_gone(self, songhash: str) -> bool:
        if self._storage.has_record(songhash):
            return False
        self.forget(songhash)
        with suppress(UnknownTrack):
            self.add(self._storage.track(songhash))  # where the record was written just now
        return True

    def _ensure_complete(self) -> None:
        """Read all records from the bucket unless that was done since Redis was last emptied.

        Raises StateUnavailable where that takes longer than a request should.
        """
        with translated():
            if self._redis.exists(naming.TRACKS_COMPLETE):
                return
            if not self._redis.set(_LOCK, "1", nx=True, ex=_REBUILD_LOCK_S):
                self._await_rebuilt()
                return
        rebuilding = self._background.submit(self._rebuild)
        wait([rebuilding], _REBUILD_WAIT_S)
        if not rebuilding.done():
            raise StateUnavailable("the list of tracks is being rebuilt from the bucket", retry_after_s=5)
        rebuilding.result()

    def _await_rebuilt(self) -> None:
        """Wait for somebody else who reads them: a page asks for several things at once."""
        deadline = time.monotonic() + _REBUILD_WAIT_S
        while time.monotonic() < deadline:
            if self._redis.exists(naming.TRACKS_COMPLETE):
                return
            time.sleep(_REBUILD_LOOK_S)
        raise StateUnavailable("the list of tracks is being rebuilt from the bucket", retry_after_s=5)

    def _rebuild(self) -> None:
        try:
            count = 0
            with ThreadPoolExecutor(_REBUILD_THREADS) as pool:
                for track in _in_order(pool, self._read, self._storage.records()):
                    if track:
                        self.add(track, news_of_it=False)
                        count += 1
                        if count % 500 == 0:
                            with translated():
                                self._redis.expire(_LOCK, _REBUILD_LOCK_S)
            with translated():
                self._redis.set(naming.TRACKS_COMPLETE, "1")
            _log.info("read %d tracks from the bucket into the index", count)
        finally:
            with translated():
                self._redis.delete(_LOCK)

    def _read(self, songhash: str) -> Track | None:
        try:
            return self._storage.track(songhash)
        except UnknownTrack as error:
            _log.warning("not in the list of tracks: %s", error)  # removed since it was listed, or no record at all
            return None


def _model(track: Track, known: str | None) -> str:
    """Return what is known of a track's model with the track: other tracks may have stems that were not asked for."""
    sources = json.loads(known)["sources"] if known else []
    sources += [stem.stem.removeprefix(COMPLEMENT) for stem in track.stems]
    return _known_model(sources, track.model.note)


def _known_model(sources: Iterable[str], note: str) -> str:
    return json.dumps({"sources": sorted(set(sources)), "note": note}, ensure_ascii=False)


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[str], Track | None], songhashes: Iterable[str]
) -> Iterator[Track | None]:
    """Read records, some at a time: all of them at once would stand in memory."""
    source = iter(songhashes)
    while some := list(islice(source, 20 * _REBUILD_THREADS)):
        yield from pool.map(read, some)


def _read(text: str | None) -> Track | None:
    """Read a record out of the index; None for one that is gone or that another version of this program wrote."""
    try:
        return Track.from_json(text) if text else None
    except ValueError as error:
        _log.warning("left out of the list of tracks: %s", error)
        return None
