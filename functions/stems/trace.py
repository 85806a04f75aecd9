"""What is being handled, and where in its trace: every line of the log names it, every event carries it on.

An event travels with a `traceparent` (https://www.w3.org/TR/trace-context/), as a header and as CloudEvents'
distributed tracing extension. Its trace id is made of the event, so that all deliveries of one event are one trace.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the trace of an event. `span_id` is empty before its first span."""

    event_id: str
    trace_id: str
    span_id: str = ""

    @property
    def traceparent(self) -> str:
        """What the next one is told; empty before the first span. It says `sampled`: who stores spans may thin out."""
        return f"00-{self.trace_id}-{self.span_id}-01" if self.span_id else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work that ended. `kind`: client, server or empty; times in nanoseconds since 1970; `error`: if any."""

    name: str
    kind: str
    place: Place
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | int | float]
    error: str


_here: ContextVar[Place | None] = ContextVar("place", default=None)
_keep: list[Callable[[Span], None]] = []


def keep_spans(keep: Callable[[Span], None]) -> None:
    """Have `keep` called with each span that ends in this process. For entry points."""
    _keep.append(keep)


def here() -> Place | None:
    """Return the place of what is being handled now, in this thread or task."""
    return _here.get()


def place(event_id: str, source: str, *traceparents: str | None) -> Place:
    """Return where to go on with an event: behind what it carries, or at the beginning of its trace.

    `traceparents`: of the event itself, then of the request that brought it. The event's own decides which trace it is;
    the request's is nearer where it is of that trace. What is not valid counts as absent, as W3C demands.
    """
    found = [each for each in map(_parse, traceparents) if each]
    if not found:
        return Place(event_id, hashlib.sha256(f"{source}\0{event_id}".encode()).hexdigest()[:32])
    trace_id, span_id = [each for each in found if each[0] == found[0][0]][-1]
    return Place(event_id, trace_id, span_id)


def _parse(traceparent: str | None) -> tuple[str, str] | None:
    match = _TRACEPARENT.fullmatch(traceparent or "")
    # Later versions may say more at the end; this one must not.
    return (match[2], match[3]) if match and (match[1] != "00" or not match[4]) else None


@contextmanager
def handling(place: Place) -> Iterator[None]:
    """Handle, in the block, the event of this place."""
    token = _here.set(place)
    try:
        yield
    finally:
        _here.reset(token)


@contextmanager
def span(name: str, kind: str = "", **attributes: str | int | float) -> Iterator[dict[str, str | int | float]]:
    """Make the block a span below that of its caller; outside of any event it is none.

    Yields its attributes: the block may add some.
    """
    before = here()
    if before is None:
        yield attributes
        return
    place, start_ns, error = replace(before, span_id=secrets.token_hex(8)), time.time_ns(), ""
    try:
        with handling(place):
            yield attributes
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
        raise
    finally:
        for keep in _keep:
            keep(Span(name, kind, place, before.span_id, start_ns, time.time_ns(), attributes, error))
