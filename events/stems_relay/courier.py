"""One line worked off: take what is due, deliver it, enter the answer. The relay has one for each line."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import redis

from stems import metrics, naming, trace
from stems.config import LATENCY, Settings
from stems.contract import TYPE_DIVIDED, Upload
from stems.division import Divided, Wanted
from stems.errors import BadNotification
from stems.reply import Reply
from stems_relay.callback import Callback, News
from stems_relay.inbox import Inbox, Message, Taken
from stems_relay.sink import Answer, Verdict

_log = logging.getLogger(__name__)

_POLL_S = 0.25  # how long a job entered by another relay may stand unseen
_PAUSE_MAX_S = 5.0  # how long the courier looks away from a sink that is away
_PATIENCE = 10  # so often a song keeps its place in line though the sink is unable to take it


class Receiver(Protocol):
    """Who takes what stands in a line."""

    async def deliver(self, message: Any, places: int, /) -> Answer:
        """Deliver, and return what the answer means. `places`: so many workers may have it among them."""

    async def close(self) -> None:
        """Close the connections."""


class Courier:
    """Delivers from one line (its key) to its receiver, `limit` at a time.

    `on_dead` is told of each song that is a dead letter, and why; `news` knows what is to be said of songs that ended.
    `max_attempts` and `backoff_max_s` are by default those of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        inbox: Inbox,
        sink: Receiver,
        *,
        line: str = naming.WAITING,
        limit: int,
        on_dead: Callable[[Upload, str], Awaitable[None]] | None = None,
        news: News | None = None,
        max_attempts: int | None = None,
        backoff_max_s: float | None = None,
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._sink = sink
        self._line = line
        self._limit = limit
        self._on_dead = on_dead
        self._news = news
        self._max_attempts = max_attempts or settings.max_attempts
        self._backoff_max_s = backoff_max_s or settings.backoff_max_s
        self._work = asyncio.Event()
        # By task: after Redis lost its data, a song may be delivered twice at once.
        self._in_flight: dict[asyncio.Task[None], str] = {}
        self._served = False
        self._pause_until = 0.0

    @property
    def in_flight(self) -> set[str]:
        """The ids of what is being delivered."""
        return set(self._in_flight.values())

    def wake(self) -> None:
        """Say that there may be work."""
        self._work.set()

    async def deliver_next(self) -> None:
        """Start the next deliveries, or wait a moment for one that may start."""
        self._work.clear()
        pause_s = self._pause_until - time.monotonic()
        room = self._limit - len(self._in_flight)
        if pause_s > 0 or room <= 0:
            await self._wait(pause_s if pause_s > 0 else _POLL_S)
            return
        taken = await self._inbox.take(self._line, room)
        if not isinstance(taken, list):
            await self._wait(_POLL_S if taken is None else min(taken, _POLL_S))
            return
        for each in taken:
            task = asyncio.create_task(self._deliver(each, self._places(each, len(taken))))
            self._in_flight[task] = each.message.job
            task.add_done_callback(self._landed)

    def _places(self, taken: Taken, together: int) -> int:
        """Return among how many workers one of so many songs may be divided: nobody else is to wait for them."""
        if self._settings.divide != LATENCY or taken.busy is None:
            return 0
        return 1 + max(self._limit - taken.busy, 0) // together

    async def finish(self) -> None:
        """Give what is in flight a while to end; break off the rest, and close the connections."""
        if self._in_flight:
            _log.info("stopping; waiting for what is in flight", extra={"jobs": len(self._in_flight)})
            _, pending = await asyncio.wait(self._in_flight, timeout=self._settings.grace_s)
            await cancel(pending)
        await self._sink.close()

    async def _wait(self, seconds: float) -> None:
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._work.wait()

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._work.set()

    async def _deliver(self, taken: Taken, places: int) -> None:
        """Deliver one job and enter the answer, for as long as it takes Redis to be there."""
        message = taken.message
        with trace.handling(message.place):
            started = time.monotonic()
            if taken.attempts > self._max_attempts:  # it may be this song that kills relays
                answer = Answer(
                    Verdict.DEAD, f"{taken.attempts - 1} deliveries, and the relay ended before the last answer"
                )
            else:
                with trace.span("deliver", "client", key=message.key, attempt=taken.attempts) as attributes:
                    answer = await self._sink.deliver(message, places)
                    attributes["verdict"] = answer.verdict.value
            seconds = time.monotonic() - started
            while True:
                try:
                    await self._enter(taken, answer, seconds)
                    break
                # An edge of the process: nobody waits for this task, so it must not end before the answer is entered.
                except Exception as error:
                    known = isinstance(error, redis.RedisError)
                    _log.warning("the answer cannot be entered yet: %s", error, extra=_extra(taken), exc_info=not known)
                    await asyncio.sleep(1)

    async def _enter(self, taken: Taken, answer: Answer, seconds: float) -> None:
        settings, settle, extra = self._settings, self._inbox.settle, _extra(taken)
        # The bound on the exponent: a song may be tried for days while the sink is away.
        backoff_s = min(self._backoff_max_s, settings.backoff_s * 2.0 ** min(taken.tries - 1, 30))
        backoff_s *= random.uniform(0.5, 1)  # songs that failed together come back apart
        verdict, asked_s = answer.verdict, answer.retry_after_s
        # A sink that serves others and is unable to take this song again and again speaks of the song.
        impatient = verdict is Verdict.UNABLE and taken.tries > _PATIENCE
        if impatient and self._served:
            verdict = Verdict.RETRY
        if verdict is not Verdict.BUSY:
            self._served = verdict not in {Verdict.AWAY, Verdict.UNABLE}
        match verdict:
            case Verdict.DONE | Verdict.GONE:
                entered = await settle(taken, verdict.value, news=self._done(taken, answer))
                _log.info("%s", entered, extra={**extra, "seconds": round(seconds, 2)})
            case Verdict.DIVIDED if isinstance(taken.message, Upload):
                verdict = await self._divide(taken, answer, seconds)
            case Verdict.DIVIDED:
                verdict = Verdict.DEAD
                await self._bury(taken, f"{TYPE_DIVIDED} is no answer to this: only songs are divided")
            case Verdict.AWAY | Verdict.UNABLE:
                delay_s = min(asked_s or backoff_s, _PAUSE_MAX_S)
                self._pause_until = time.monotonic() + delay_s
                await settle(taken, "waiting", error=answer.reason, delay_s=delay_s if impatient else None, refund=True)
                _log.warning("the sink is away: %s", answer.reason, extra=extra)
            case Verdict.BUSY:
                await settle(taken, "waiting", error=answer.reason, delay_s=asked_s or backoff_s, refund=True)
                _log.info("busy: %s", answer.reason, extra=extra)
            case Verdict.RETRY if taken.attempts < self._max_attempts:
                await settle(taken, "waiting", error=answer.reason, delay_s=max(backoff_s, asked_s or 0))
                _log.warning("attempt %d failed: %s", taken.attempts, answer.reason, extra=extra)
            case Verdict.RETRY:
                verdict = Verdict.DEAD
                await self._bury(taken, f"gave up after {taken.attempts} attempts; the last one: {answer.reason}")
            case Verdict.DEAD:
                await self._bury(taken, answer.reason)
        self._count(taken.message, verdict, answer, seconds)

    async def _divide(self, taken: Taken, answer: Answer, seconds: float) -> Verdict:
        """Let a song go on in parts; return what became of it."""
        try:
            divided = Divided.from_json(answer.body)
        except BadNotification as error:
            await self._bury(taken, f"the function divided the song, and its answer cannot be read: {error}")
            return Verdict.DEAD
        # Once in parts, once to join them stem by stem; beyond that, as often as parts may be lost.
        match await self._inbox.divide(taken, divided, 2 + self._max_attempts):
            case "often":
                await self._bury(taken, "the song was divided again and again: its parts are made, and cannot be found")
                return Verdict.DEAD
            case "again" | "cancelled":
                await self._inbox.settle(taken, "waiting", refund=True)
            case entered:
                about = {"parts": len(divided.parts), "seconds": round(seconds, 2)}
                _log.info("%s", entered, extra={**_extra(taken), **about})
        return Verdict.DIVIDED

    def _count(self, message: Message, verdict: Verdict, answer: Answer, seconds: float) -> None:
        if isinstance(message, Upload):
            age_s = time.time() - message.uploaded_ms / 1000
            metrics.delivered(naming.SONGS, verdict.value, seconds, answer.timings_s, age_s)
        else:
            metrics.delivered(naming.kind(message.job), verdict.value, seconds, {}, 0)

    def _done(self, taken: Taken, answer: Answer) -> Sequence[Reply | Callback]:
        if self._news is None or not isinstance(taken.message, Upload):
            return ()
        return self._news.of_done(taken.delivery, taken.message, answer, gone=answer.verdict is Verdict.GONE)

    async def _bury(self, taken: Taken, reason: str) -> None:
        """Make the job a dead letter and have it said where it matters."""
        news: Sequence[Reply | Callback] = ()
        upload = taken.message
        if isinstance(upload, Wanted):  # the song is what dies
            reason = f"{upload.name}: {reason}"
            upload = upload.upload
        if self._news and isinstance(upload, Upload):
            news = self._news.of_dead(taken.delivery, upload, reason)
        if await self._inbox.settle(taken, "failed", error=reason, news=news) != "failed":
            return
        _log.error("dead letter: %s", reason, extra=_extra(taken))
        if self._on_dead and isinstance(upload, Upload):
            await self._on_dead(upload, reason)


def _extra(taken: Taken) -> dict[str, str]:
    return {"key": taken.message.key, "job": taken.message.job}


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a library may swallow the first request."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
