"""The relay process: read notifications, deliver jobs, sweep, take over from dead relays, until SIGTERM."""

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable

import redis

from stems import address, jobs, logs, metrics, naming, otel
from stems.config import Settings
from stems.contract import Upload
from stems.errors import StemsError
from stems.storage import Storage
from stems_relay.callback import News
from stems_relay.caller import Caller
from stems_relay.courier import Courier, cancel
from stems_relay.gauges import Gauges
from stems_relay.inbox import Inbox, Read
from stems_relay.listing import Listing
from stems_relay.orphans import Orphans
from stems_relay.scripts import SILENT_HEARTBEATS
from stems_relay.sink import Sink
from stems_relay.sweep import sweep, tell

_log = logging.getLogger(__name__)

_REPLIES_AT_A_TIME = 8  # receivers answer at once
_CALLBACKS_AT_A_TIME = 32
_CALLBACK_BACKOFF_MAX_S = 3600.0  # who is called is not ours to mend


def run(settings: Settings) -> None:
    """Run the relay until SIGTERM or SIGINT. Raises ConfigError when a setting is missing."""
    settings.require("sink", "s3_access_key", "s3_secret_key")
    client = jobs.connect(settings)
    logs.configure(settings, "relay", client)
    otel.configure(settings, "relay")
    metrics.serve(settings.metrics_port, *metrics.RELAY, Gauges(client))
    gc.freeze()  # what is loaded by now stays: the collector need not look through it again and again
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    await Relay(settings).run()


class Relay:
    """One relay; any number may run beside each other on the same Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._inbox = Inbox(settings.redis_url, name)
        self._storage = Storage(settings)
        self._listing = Listing(settings)
        self._orphans = Orphans(settings)
        self._stop = asyncio.Event()
        self._strays: set[str] = set()
        self._swept = False
        secret = settings.sink_secret[0] if settings.sink_secret else ""
        sink = Sink(settings.sink, settings.delivery_timeout_s, settings.max_in_flight, secret)
        self._songs = Courier(
            settings,
            self._inbox,
            sink,
            limit=settings.max_in_flight,
            on_dead=self._on_dead,
            news=News(settings),
        )
        callbacks = Courier(
            settings,
            self._inbox,
            Caller(settings, _CALLBACKS_AT_A_TIME),
            line=naming.CALLBACKS,
            limit=_CALLBACKS_AT_A_TIME,
            max_attempts=settings.callback_attempts,
            backoff_max_s=_CALLBACK_BACKOFF_MAX_S,
        )
        self._couriers = {"delivery": self._songs, "callbacks": callbacks}
        if settings.reply_sink:
            sink = Sink((settings.reply_sink,), settings.delivery_timeout_s, _REPLIES_AT_A_TIME)
            limit = _REPLIES_AT_A_TIME
            self._couriers["replies"] = Courier(settings, self._inbox, sink, line=naming.REPLIES, limit=limit)

    async def run(self) -> None:
        """Run all loops until a signal; then finish or hand back what is in flight."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        _log.info(
            "relay started", extra={"relay": self._inbox.name, "sink": tuple(map(address.shown, self._settings.sink))}
        )
        heart = asyncio.create_task(self._repeat(self._heartbeat, "heartbeat"))
        steps = {"intake": self._read, "sweep": self._sweep}
        steps |= {name: courier.deliver_next for name, courier in self._couriers.items()}
        loops = [asyncio.create_task(self._repeat(step, name)) for name, step in steps.items()]
        await self._stop.wait()
        await cancel(loops)
        await asyncio.gather(*(courier.finish() for courier in self._couriers.values()))
        await cancel([heart])  # the last to go: without it, others take over what is still in flight
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
            for courier in self._couriers.values():
                courier.wake()
        # A job taken by a call whose answer was lost on the way belongs to nobody.
        strays = await self._inbox.delivering()
        strays -= set().union(*(courier.in_flight for courier in self._couriers.values()))
        for job in strays & self._strays:
            _log.warning("a job was taken and never delivered; it goes back in line", extra={"job": job})
            await self._inbox.put_back(job)
        self._strays = strays
        await asyncio.sleep(every_s)

    async def _read(self) -> None:
        read = await self._inbox.read()
        if read.new:
            self._songs.wake()
        if read != Read():
            _log.debug("read %s", read)
        if read.unreadable:
            _log.error("kept unreadable notifications as dead letters", extra={"count": read.unreadable})
        if read.other:
            _log.info("dropped events that tell of no new object", extra={"count": read.other})

    async def _on_dead(self, upload: Upload, reason: str) -> None:
        """Say on the upload that it is a dead letter."""
        await tell(self._storage, upload, "failed", error=reason)

    async def _sweep(self) -> None:
        """Sweep at the start, whoever swept before, and then in turn with the other relays."""
        if await self._inbox.sweep_turn(self._settings.sweep_s) or not self._swept:
            self._swept = False
            swept = await sweep(self._listing, self._storage, self._inbox)
            self._swept = True
            if swept.entered:
                self._songs.wake()
            _log.info("swept the bucket", extra={"uploads": swept.seen, "entered": swept.entered})
            if count := await self._orphans.tidy(self._inbox):
                _log.info("removed stems that no record names", extra={"songs": count})
        await asyncio.sleep(min(self._settings.sweep_s, 5))

    async def _sign_off(self) -> None:
        """Hand back what was broken off."""
        try:
            await self._inbox.sign_off()
        except redis.RedisError as error:
            _log.warning("not signed off, another relay takes over: %s", error)
        await self._inbox.close()
        _log.info("relay stopped")
