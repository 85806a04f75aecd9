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
from collections.abc import Awaitable, Callable

import redis

from stems import jobs, logs
from stems.config import Settings
from stems.errors import StemsError
from stems.jobs import now_ms
from stems.storage import Storage
from stems_relay.inbox import Inbox, Read, Taken
from stems_relay.sink import Answer, Sink, Verdict
from stems_relay.sweep import sweep

_log = logging.getLogger(__name__)

_POLL_S = 0.25  # how long a job entered by another relay may stand unseen
_PAUSE_MAX_S = 5.0  # how long the relay looks away from a sink that is away
_SILENT_HEARTBEATS = 3  # a relay that has missed so many is dead


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
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._strays: set[str] = set()
        self._swept = False
        self._pause_until = 0.0

    async def run(self) -> None:
        """Run all loops until a signal; then finish or hand back what is in flight."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        _log.info("relay started", extra={"relay": self._inbox.name, "sink": self._settings.sink})
        loops = [
            asyncio.create_task(self._repeat(step, name))
            for name, step in (
                ("heartbeat", self._heartbeat),
                ("intake", self._read),
                ("delivery", self._deliver_next),
                ("sweep", self._sweep),
            )
        ]
        await self._stop.wait()
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._finish()

    async def _repeat(self, step: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a step for ever; while a part is away, say so once and try again every second."""
        away = False
        while True:
            try:
                await step()
                if away:
                    _log.info("%s goes on", name)
                away = False
            except (redis.RedisError, StemsError, OSError) as error:
                if not away:
                    _log.warning("%s waits: %s", name, error)
                away = True
                await asyncio.sleep(1)

    async def _heartbeat(self) -> None:
        every_s = self._settings.heartbeat_s
        await self._inbox.heartbeat()
        if count := await self._inbox.recover(every_s * _SILENT_HEARTBEATS):
            _log.warning("took over from a relay that died", extra={"jobs": count})
            self._work.set()
        # A job taken by a call whose answer was lost on the way belongs to nobody.
        strays = await self._inbox.delivering() - self._in_flight.keys()
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
            self._in_flight[taken.upload.job] = task
        else:
            await self._wait(_POLL_S if taken is None else min(taken, _POLL_S))

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), seconds)

    async def _deliver(self, taken: Taken) -> None:
        """Deliver one job and enter the answer, for as long as it takes Redis to be there."""
        started, key = time.monotonic(), taken.upload.key
        try:
            answer = await self._sink.deliver(taken.upload)
            while True:
                try:
                    await self._enter(taken, answer, time.monotonic() - started)
                    break
                except redis.RedisError as error:
                    _log.warning("the answer cannot be entered yet: %s", error, extra={"key": key})
                    await asyncio.sleep(1)
        finally:
            self._in_flight.pop(taken.upload.job, None)
            self._work.set()

    async def _enter(self, taken: Taken, answer: Answer, seconds: float) -> None:
        settings, extra = self._settings, {"key": taken.upload.key, "job": taken.upload.job}
        backoff_s = min(settings.backoff_max_s, settings.backoff_s * 2.0 ** (taken.tries - 1))
        backoff_s *= random.uniform(0.5, 1)  # songs that failed together come back apart
        match answer.verdict:
            case Verdict.DONE | Verdict.GONE:
                await self._inbox.settle(taken, answer.verdict.value)
                _log.info("%s", answer.verdict.value, extra={**extra, "seconds": round(seconds, 2)})
            case Verdict.AWAY:
                delay_s = min(answer.retry_after_s or backoff_s, _PAUSE_MAX_S)
                self._pause_until = time.monotonic() + delay_s
                await self._inbox.settle(taken, "waiting", error=answer.reason, due_ms=taken.since_ms, refund=True)
                _log.warning("the sink is away: %s", answer.reason, extra=extra)
            case Verdict.BUSY:
                due_ms = now_ms() + int(1000 * (answer.retry_after_s or backoff_s))
                await self._inbox.settle(taken, "waiting", error=answer.reason, due_ms=due_ms, refund=True)
                _log.info("busy: %s", answer.reason, extra=extra)
            case Verdict.RETRY if taken.attempts < settings.max_attempts:
                due_ms = now_ms() + int(1000 * max(backoff_s, answer.retry_after_s or 0))
                await self._inbox.settle(taken, "waiting", error=answer.reason, due_ms=due_ms)
                _log.warning("attempt %d failed: %s", taken.attempts, answer.reason, extra=extra)
            case Verdict.RETRY:
                await self._bury(taken, f"gave up after {taken.attempts} attempts; the last one: {answer.reason}")
            case Verdict.DEAD:
                await self._bury(taken, answer.reason)

    async def _bury(self, taken: Taken, reason: str) -> None:
        """Make the job a dead letter and say so on the upload."""
        if await self._inbox.settle(taken, "failed", error=reason) != "failed":
            return
        _log.error("dead letter: %s", reason, extra={"key": taken.upload.key, "job": taken.upload.job})
        try:
            await asyncio.to_thread(self._storage.tag, taken.upload, "failed", error=reason)
        except StemsError as error:
            _log.warning("the upload is not tagged yet: %s", error)  # the sweep will do it

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
        """Give what is in flight a while to end; hand back the rest."""
        tasks = list(self._in_flight.values())
        if tasks:
            _log.info("stopping; waiting for what is in flight", extra={"jobs": len(tasks)})
            _, pending = await asyncio.wait(tasks, timeout=self._settings.grace_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        try:
            await self._inbox.sign_off()
        except redis.RedisError as error:
            _log.warning("not signed off, another relay takes over: %s", error)
        await self._sink.close()
        await self._inbox.close()
        _log.info("relay stopped")
