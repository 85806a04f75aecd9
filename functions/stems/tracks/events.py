"""/v1/events: what happens, as Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

One thread of each process reads the stream of news (see `stems.news`) and makes each event once for all clients.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis
from flask import Response, request
from werkzeug import exceptions

from stems import naming, news, printable
from stems.errors import StateUnavailable
from stems.index import Index
from stems.jobs import Jobs, translated
from stems.tracks import bodies
from stems.tracks.api import Answer, Routes, header
from stems.tracks.estimate import Estimates
from stems.tracks.hub import Hub, Position

_log = logging.getLogger(__name__)

_TYPE = "text/event-stream"
_BLOCK_MS = 2000  # shorter than the client's own timeout
_BATCH = 200
_RETRY_MS = 2000
_SOCKET = "gunicorn.socket"
# Says to look anew: what was told meanwhile is lost.
_RESET = "reset"


class Reader:
    """The one that reads the news, for all clients of this process."""

    def __init__(self, client: redis.Redis, jobs: Jobs, index: Index, hub: Hub) -> None:
        self._redis: Any = client
        self._jobs, self._index, self._hub = jobs, index, hub
        self._lock = threading.Lock()
        self._last = ""

    def start(self) -> str:
        """Read from now on, if that was not begun before; return the id of the last entry there is."""
        with translated():
            found = self._redis.xrevrange(naming.EVENTS, count=1)
        last: str = found[0][0] if found else "0-0"
        with self._lock:
            if not self._last:
                self._last = last
                threading.Thread(target=self._run, name="news", daemon=True).start()
            # After Redis lost its data the stream is empty, and what was told before must not be told again.
            return max(last, self._last, key=news.position)

    def missed(self, last: str) -> tuple[str, bytes]:
        """Return the events after the entry `last`, each thing once, and the id of the last of them."""
        with translated():
            pipe = self._redis.pipeline()
            pipe.xrange(naming.EVENTS, count=1)
            pipe.xrange(naming.EVENTS, min=f"({last}", count=news.LENGTH * 2)
            oldest, found = pipe.execute()
        lost = bool(oldest) and news.position(oldest[0][0]) > news.position(last)
        entries = news.entries(found)
        made = [_event(found[-1][0] if found else last, _RESET, {})] if lost else []
        made += [data for _, data in self._made(news.latest(entries))]
        return (entries[-1][0] if entries else last), b"".join(made)

    def _run(self) -> None:
        lost = False
        while True:
            # An edge: a thread that ends would leave all clients waiting. What is lost, they are told to look for.
            try:
                found = self._redis.xread({naming.EVENTS: self._last}, count=_BATCH, block=_BLOCK_MS)
                entries = found[0][1] if found else []
                if lost:
                    self._hub.publish(news.position(self._last), _event(self._last, _RESET, {}))
                    lost = False
                for position, data in self._made(news.latest(news.entries(entries))):
                    self._hub.publish(position, data)
                if entries:
                    self._last = entries[-1][0]
            except Exception as error:
                if not lost:
                    known = isinstance(error, redis.RedisError | StateUnavailable)
                    _log.warning("the news are not read: %s", error, exc_info=not known)
                lost = True
                time.sleep(1)

    def _made(self, entries: Iterable[news.Entry]) -> list[tuple[Position, bytes]]:
        """Return the events of some entries, as things stand now."""
        entries = list(entries)
        jobs = {job.id: job for job in self._jobs.get(each for _, kind, each in entries if kind == "job")}
        found = self._index.get(each for _, kind, each in entries if kind == "track")
        tracks = {track.songhash: track for track in found}
        estimates = Estimates.of(self._jobs) if jobs else None
        made = []
        for entry, kind, identity in entries:
            body: dict[str, Any] | None = None
            if kind == "job" and identity in jobs and estimates:
                body = bodies.job(jobs[identity], estimates)
            elif kind == "track" and identity in tracks:
                body = bodies.track(tracks[identity])
            elif kind == "removed":
                body = {"songhash": identity}
            if body is not None:
                made.append((news.position(entry), _event(entry, kind, body)))
        return made


def routes(reader: Reader, hub: Hub) -> Routes:
    """Return the route."""
    events = Routes("events", "What happens, as it happens")

    @events.add(
        "/v1/events",
        good={200: Answer(content_types=(_TYPE,))},
        bad=(400, 501, 503),
        parameters=(header("Last-Event-ID", "Begin after this event; without it, now"),),
        more={
            "summary": "Listen",
            "description": "Server-Sent Events: `job` (data: a job), `track` (a track), `removed` (its `songhash`), "
            "and `reset`: some were lost, look anew. A comment comes every 15 s. A job changes often: what was true in "
            "between is not told.",
        },
    )
    def listen() -> Response:
        response = _Stream(content_type=_TYPE)
        response.cache_control.no_store = True
        response.headers["X-Accel-Buffering"] = "no"  # nginx would keep them back
        if request.method == "HEAD":
            return response
        if _SOCKET not in request.environ:
            raise exceptions.NotImplemented("events need gunicorn, with the worker of stems.tracks.server")
        last = reader.start()
        first = f"retry: {_RETRY_MS}\n".encode()
        if told := request.headers.get("Last-Event-ID"):
            try:
                news.position(told)
            except ValueError as error:
                raise exceptions.BadRequest(f"Last-Event-ID={told}: {error}") from error
            last, missed = reader.missed(told)
            first += b"\n" + missed
        # An id without data: whoever is cut off before the first event comes back with it.
        first += f"id: {last}\n\n".encode()
        response.hand_over = lambda sock, head: hub.adopt(sock, head + first, news.position(last))
        return response

    return events


class _Stream(Response):
    """An answer that has no end: its socket goes to the hub, and gunicorn is told that the request is over."""

    hand_over: Callable[[socket.socket, bytes], None] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer. Raises StopIteration, at which gunicorn's worker lets go of the connection without a word."""
        if self.hand_over is None:
            return super().__call__(environ, start_response)
        headers = self.get_wsgi_headers(environ)
        headers.remove("Content-Length")
        headers["Connection"] = "close"  # it ends with the connection, and has no other end
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers)]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        sock = socket.socket(fileno=environ[_SOCKET].detach())
        self.hand_over(sock, head)
        raise StopIteration


def _event(entry: str, kind: str, body: Any) -> bytes:
    data = printable.in_json(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    return f"id: {entry}\nevent: {kind}\ndata: {data}\n\n".encode()
