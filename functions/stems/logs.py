"""Logging of every process: lines on stderr, and the important ones also in the Redis list `logging`.

Configured by entry points only. The list lets `stems logs` show all parts at once without access to their machines.
"""

import logging
import queue
import re
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import redis

from stems import naming, printable, trace
from stems.config import Settings

_BUFFER = 1000
_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
_EVENT = re.compile(r"([0-9A-F]{16})\.[0-9a-f-]+")  # as MinIO makes them
_LINE_LIMIT = 1000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Settings, component: str, client: redis.Redis | None = None) -> None:
    """Send the log of this process, named `component`, to stderr and, from INFO up, to the list in Redis."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(component) if settings.log_format == "json" else _Text(component))
    handler.addFilter(_Place())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # These tell of each request at INFO, which is not important to people.
    for noisy in ("httpx2", "httpcore2", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if client is not None and settings.log_tail:
        root.addHandler(_Tail(client, component, settings.log_tail))


class _Place(logging.Filter):
    """Notes on each line, in the thread that writes it, what event it is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        if place := trace.here():
            vars(record).setdefault("event_id", place.event_id)
            vars(record).setdefault("trace_id", place.trace_id)
        return True


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _Json(logging.Formatter):
    """One JSON object a line; what is given as `extra` stands beside the message."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "component": self._component,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return printable.as_json(line)


class _Text(logging.Formatter):
    """Lines for people: time, component, message, details."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        details = "".join(f" {name}={_short(value)}" for name, value in _extra(record).items())
        text = printable.escaped(f"{time} {self._component:<8} {level}{record.getMessage()}{details}")
        if record.exc_info:  # its message may have a stranger's words, and its lines are lines
            text = "\n".join([text, *map(printable.escaped, self.formatException(record.exc_info).split("\n"))])
        return text


def _short(value: object) -> str:
    """Cut an id to its first digits: enough to tell songs apart, and for `stems dead`."""
    text = str(value)
    if event := _EVENT.fullmatch(text):
        return event[1]
    return text[:8] if _ID.fullmatch(text) else text


class _Tail(logging.Handler):
    """Appends to the list `logging` from a thread of its own: a Redis that is away must not hold up the work."""

    def __init__(self, client: redis.Redis, component: str, length: int) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(_Text(component))
        self.addFilter(_Place())
        self._client: Any = client  # redis-py's types do not know that a pipeline's methods return it
        self._length = length
        self._lines: queue.Queue[str] = queue.Queue(_BUFFER)
        threading.Thread(target=self._send, name="log-tail", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._lines.full():  # Redis is away: stderr has the line
            self._lines.put_nowait(self.format(record)[:_LINE_LIMIT])

    def _send(self) -> None:
        while True:
            line = self._lines.get()
            try:
                pipe = self._client.pipeline()
                pipe.rpush(naming.LOG_TAIL, line).ltrim(naming.LOG_TAIL, -self._length, -1)
                pipe.execute()
            except redis.RedisError:
                continue  # the line is on stderr; logging this would come back here
