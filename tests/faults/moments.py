"""Moments that are too short to be hit by chance. A trigger on a proxy sees the request, or the answer, that makes one;
no line of the pipeline knows of it.
"""

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.faults import checker
from tests.faults.run import RELAYS, WORKERS, Run, Strike
from tests.faults.songs import Song
from tests.faults.stack import quietly, wait
from tests.proxy import ANSWER, Proxy, Trigger

_PATIENCE_S = 120.0  # how long a trigger waits for its moment

Act = Callable[[Run, str], None]


@dataclass(frozen=True)
class Moment:
    """A request of one of `parts` to `to`: before it goes on, or `after`, when such an answer is about to come back.

    `<song>` in it is the hash of a song that is uploaded for the moment to come; `divided`: in parts.
    """

    parts: tuple[str, ...]
    to: str
    request: bytes
    after: bool = False
    answer: bytes = ANSWER.pattern
    divided: bool = False


def _worker(request: bytes, after: bool = False, divided: bool = False) -> Moment:
    return Moment(WORKERS, "minio", request, after, divided=divided)


def _relay(request: bytes, after: bool = False, answer: bytes = ANSWER.pattern, divided: bool = False) -> Moment:
    return Moment(RELAYS, "redis", request, after, answer, divided)


_RECORD = rb"^PUT /output/[0-9a-f]{64}\.json"
_SHELF = rb"/output/parts/<song>/[0-9a-f]{16}/"
_FETCH = rb"EVALSHA.*stems:notifications\r.*stems:processing:.*stems:relays\r"
_TAKE = rb"EVALSHA.*stems:waiting\r.*stems:attempts\r.*stems:delivering:"
_SETTLE = rb"EVALSHA.*stems:job:.*stems:pace\r"
_DIVIDE = rb"EVALSHA.*stems:delivering:.*stems:parts\r.*stems:divided\r"
_SETTLE_PART = rb"EVALSHA.*stems:parts:later\r.*stems:dead\r.*\ndone\r"
_SOME = rb"^\*[1-9]"  # an answer that is a list, and not empty

LEASED = _worker(rb"^GET /queue/\S+\.wav HTTP")
STEM = _worker(rb"^PUT /output/[0-9a-f]{64}-\w+\.mp3", after=True)
BEFORE_RECORD = _worker(_RECORD)
AFTER_RECORD = _worker(_RECORD, after=True)
BEFORE_ITS_RECORD = _worker(rb"^PUT /output/<song>\.json")
BEFORE_PLAN = _worker(rb"^PUT " + _SHELF + rb"plan\.json", divided=True)
AFTER_PLAN = _worker(rb"^PUT " + _SHELF + rb"plan\.json", after=True, divided=True)
MAKING_PART = _worker(rb"^GET " + _SHELF + rb"mix\.f32", after=True, divided=True)
BEFORE_ABOUT = _worker(rb"^PUT " + _SHELF + rb"part-\d+-of-\d+\.json", divided=True)
BEFORE_CLEARING = _worker(rb"^PUT /output/<song>\.json", after=True, divided=True)
FETCHED = _relay(_FETCH, after=True, answer=_SOME)
TAKEN = _relay(_TAKE, after=True, answer=_SOME)
BEFORE_SETTLED = _relay(_SETTLE)
SETTLED = _relay(_SETTLE, after=True)
BEFORE_DIVIDED = _relay(_DIVIDE, divided=True)
DIVIDED = _relay(_DIVIDE, after=True, answer=rb"^\$7\r\ndivided", divided=True)
BEFORE_PART_SETTLED = _relay(_SETTLE_PART, divided=True)
PART_SETTLED = _relay(_SETTLE_PART, after=True, answer=rb"^\$4\r\ndone", divided=True)


def at(moment: Moment, act: Act, *, passes: bool = False) -> Strike:
    """Return a fault that does `act` to the part which comes to this moment first; the request may pass then."""

    def strike(run: Run) -> bool:
        return strike_at(run, moment, act, run.song(divided=True) if moment.divided else None, passes=passes)

    return strike


def strike_at(
    run: Run, moment: Moment, act: Act, song: Song | None = None, name: str = "divided", *, passes: bool = False
) -> bool:
    """Wait for the moment, and do `act` to its part; `song` is uploaded for it, under this name."""
    request = moment.request.replace(b"<song>", song.songhash.encode() if song else b"")
    placed: list[tuple[Proxy, Trigger]] = []
    for part in moment.parts:
        pattern, answer = re.compile(request, re.DOTALL), re.compile(moment.answer)
        trigger = Trigger(pattern, partial(act, run, part), moment.after, answer, passes)
        placed.append((run.stack.proxies[f"{part}-{moment.to}"], trigger))
        placed[-1][0].triggers.append(trigger)
    upload = run.put(name, song) if song else None

    def struck() -> bool:
        return any(trigger.fired.is_set() for _, trigger in placed)

    def passed() -> bool | None:
        if upload is None:
            return run.over.is_set()
        return quietly(lambda: checker.ended(run.stack.root, upload))

    wait(lambda: struck() or passed(), _PATIENCE_S, 0.02)
    for proxy, trigger in placed:
        proxy.triggers.remove(trigger)
    return struck()


def while_separating(act: Callable[[Run, str, str], None]) -> Strike:
    """Return a fault that strikes a worker which has just said that it separates a song as a whole, and which."""

    def strike(run: Run) -> bool:
        since = {part: run.stack.parts[part].log.stat().st_size for part in WORKERS}

        def working() -> tuple[str, str] | None:
            for part in WORKERS:
                for line in run.stack.lines(part, since[part]):
                    if line.get("message") == "separating" and run.is_ours(line["key"]):
                        return part, line["key"]
            return None

        wait(lambda: working() or run.over.is_set(), _PATIENCE_S, 0.02)
        if not (found := working()):
            return False
        act(run, *found)
        return True

    return strike


def kill(run: Run, part: str) -> None:
    """Kill the part."""
    run.stack.parts[part].send(signal.SIGKILL)


def kill_soon(run: Run, part: str, key: str) -> None:
    """Kill the part in the midst of its work."""
    time.sleep(run.random.uniform(0.05, 0.3))
    kill(run, part)


def none(run: Run, part: str) -> None:
    """Leave it at the cut of the connection."""
