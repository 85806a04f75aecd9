"""The relay process: read notifications, deliver jobs, sweep, take over from dead relays, until SIGTERM."""

import asyncio
import contextlib
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import redis

from stems import jobs, logs
from stems.config import Settings
from stems.errors import StemsError
from stems.storage import Storage
from stems_relay.inbox import Inbox, Read, Taken
from stems_relay.scripts import SILENT_HEARTBEATS
from stems_relay.sink import Answer, Sink, Verdict
from stems_relay.sweep import sweep, tell_failed

_log = logging.getLogger(__name__)

_POLL_S = 0.25  # how long a job entered by another relay may stand unseen
_PAUSE_MAX_S = 5.0  # how long the relay looks away from a sink that is away
_PATIENCE = 10  # so often a song keeps its place in line though the sink is unable to take it


def run(settings: Settings) -> None:
    """Run the relay until SIGTERM or SIGINT. Raises ConfigError when a setting is missing."""
    settings.require("sink", "s3_access_key", "s3_secret_key")
    logs.configure(settings, "relay", jobs.connect(settings))
    asyncio.run(Relay(settings).run())


class Relay:
    """One relay; any number may run beside each other on the same Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._inbox = Inbox(settings.redis_url, name)
        self._sink = Sink(settings.sink, settings.delivery_timeout_s, settings.max_in_flight)
        self._storage = Storage(settings)
        self._stop = asyncio.Event()
        self._work = asyncio.Event()
        # By task: after Redis lost its data, a song may be delivered twice at once.
        self._in_flight: dict[asyncio.Task[None], str] = {}
        self._strays: set[str] = set()
        self._swept = False
        self._served = False
        self._pause_until = 0.0

    async def run(self) -> None:
        """Run all loops until a signal; then finish or hand back what is in flight."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        _log.info("relay started", extra={"relay": self._inbox.name, "sink": self._settings.sink})
        heart = asyncio.create_task(self._repeat(self._heartbeat, "heartbeat"))
        steps = {"intake": self._read, "delivery": self._deliver_next, "sweep": self._sweep}
        loops = [asyncio.create_task(self._repeat(step, name)) for name, step in steps.items()]
        await self._stop.wait()
        await _cancel(loops)
        await self._finish()
        await _cancel([heart])  # the last to go: without it, others take over what is still in flight
        await self._sign_off()

    async def _repeat(self, step: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a step for ever; while a part is away, say so once and try again every second."""
        trouble = ""
        while True:
            try:
                await step()
                if trouble:
                    _log.info("%s goes on", name)
                trouble = ""
            # An edge of the process: a loop that ends would leave the relay running and all songs standing.
            except Exception as error:
                if trouble != (trouble := f"{type(error).__name__}: {error}"):
                    known = isinstance(error, redis.RedisError | StemsError | OSError)
                    _log.log(
                        logging.WARNING if known else logging.ERROR, "%s waits: %s", name, trouble, exc_info=not known
                    )
                await asyncio.sleep(1)

    async def _heartbeat(self) -> None:
        every_s = self._settings.heartbeat_s
        if count := await self._inbox.heartbeat(every_s * SILENT_HEARTBEATS):
            _log.warning("took over from a relay that died", extra={"jobs": count})
            self._work.set()
        # A job taken by a call whose answer was lost on the way belongs to nobody.
        strays = await self._inbox.delivering() - set(self._in_flight.values())
        for job in strays & self._strays:
            _log.warning("a job was taken and never delivered; it goes back in line", extra={"job": job})
            await self._inbox.put_back(job)
        self._strays = strays
        await asyncio.sleep(every_s)

    async def _read(self) -> None:
        read = await self._inbox.read()
        if read.new:
            self._work.set()
        if read != Read():
            _log.debug("read %s", read)
        if read.unreadable:
            _log.error("kept unreadable notifications as dead letters", extra={"count": read.unreadable})
        if read.other:
            _log.info("dropped events that tell of no new object", extra={"count": read.other})

    async def _deliver_next(self) -> None:
        self._work.clear()
        pause_s = self._pause_until - time.monotonic()
        if pause_s > 0 or len(self._in_flight) >= self._settings.max_in_flight:
            await self._wait(pause_s if pause_s > 0 else _POLL_S)
            return
        taken = await self._inbox.take()
        if isinstance(taken, Taken):
            task = asyncio.create_task(self._deliver(taken))
            self._in_flight[task] = taken.upload.job
            task.add_done_callback(self._landed)
        else:
            await self._wait(_POLL_S if taken is None else min(taken, _POLL_S))

    async def _wait(self, seconds: float) -> None:
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._work.wait()

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._work.set()

    async def _deliver(self, taken: Taken) -> None:
        """Deliver one job and enter the answer, for as long as it takes Redis to be there."""
        started, extra = time.monotonic(), {"key": taken.upload.key, "job": taken.upload.job}
        if taken.attempts > self._settings.max_attempts:  # it may be this song that kills relays
            answer = Answer(
                Verdict.DEAD, f"{taken.attempts - 1} deliveries, and the relay ended before the last answer"
            )
        else:
            answer = await self._sink.deliver(taken.upload)
        while True:
            try:
                await self._enter(taken, answer, time.monotonic() - started, extra)
                return
            # An edge of the process: nobody waits for this task, so it must not end before the answer is entered.
            except Exception as error:
                known = isinstance(error, redis.RedisError)
                _log.warning("the answer cannot be entered yet: %s", error, extra=extra, exc_info=not known)
                await asyncio.sleep(1)

    async def _enter(self, taken: Taken, answer: Answer, seconds: float, extra: dict[str, Any]) -> None:
        settings, settle = self._settings, self._inbox.settle
        # The bound on the exponent: a song may be tried for days while the sink is away.
        backoff_s = min(settings.backoff_max_s, settings.backoff_s * 2.0 ** min(taken.tries - 1, 30))
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
                entered = await settle(taken, verdict.value)
                _log.info("%s", entered, extra={**extra, "seconds": round(seconds, 2)})
            case Verdict.AWAY | Verdict.UNABLE:
                delay_s = min(asked_s or backoff_s, _PAUSE_MAX_S)
                self._pause_until = time.monotonic() + delay_s
                await settle(taken, "waiting", error=answer.reason, delay_s=delay_s if impatient else None, refund=True)
                _log.warning("the sink is away: %s", answer.reason, extra=extra)
            case Verdict.BUSY:
                await settle(taken, "waiting", error=answer.reason, delay_s=asked_s or backoff_s, refund=True)
                _log.info("busy: %s", answer.reason, extra=extra)
            case Verdict.RETRY if taken.attempts < settings.max_attempts:
                await settle(taken, "waiting", error=answer.reason, delay_s=max(backoff_s, asked_s or 0))
                _log.warning("attempt %d failed: %s", taken.attempts, answer.reason, extra=extra)
            case Verdict.RETRY:
                reason = f"gave up after {taken.attempts} attempts; the last one: {answer.reason}"
                await self._bury(taken, reason, extra)
            case Verdict.DEAD:
                await self._bury(taken, answer.reason, extra)

    async def _bury(self, taken: Taken, reason: str, extra: dict[str, Any]) -> None:
        """Make the job a dead letter and say so on the upload."""
        if await self._inbox.settle(taken, "failed", error=reason) != "failed":
            return
        _log.error("dead letter: %s", reason, extra=extra)
        await tell_failed(self._storage, taken.upload, reason)

    async def _sweep(self) -> None:
        """Sweep at the start, whoever swept before, and then in turn with the other relays."""
        if await self._inbox.sweep_turn(self._settings.sweep_s) or not self._swept:
            self._swept = False
            swept = await sweep(self._storage, self._inbox)
            self._swept = True
            if swept.entered:
                self._work.set()
            _log.info("swept the bucket", extra={"uploads": swept.seen, "entered": swept.entered})
        await asyncio.sleep(min(self._settings.sweep_s, 5))

    async def _finish(self) -> None:
        """Give what is in flight a while to end; break off the rest."""
        if self._in_flight:
            _log.info("stopping; waiting for what is in flight", extra={"jobs": len(self._in_flight)})
            _, pending = await asyncio.wait(self._in_flight, timeout=self._settings.grace_s)
            await _cancel(pending)

    async def _sign_off(self) -> None:
        """Hand back what was broken off."""
        try:
            await self._inbox.sign_off()
        except redis.RedisError as error:
            _log.warning("not signed off, another relay takes over: %s", error)
        await self._sink.close()
        await self._inbox.close()
        _log.info("relay stopped")


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a library may swallow the first request."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
