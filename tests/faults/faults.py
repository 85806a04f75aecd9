"""What is done to the pipeline. A fault is a function of a schedule; it returns whether it struck.

Faults that strike at a named moment wait for it: a trigger on a proxy sees the request (or its answer) go by.
"""

import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tests.faults import songs
from tests.faults.stack import HEARTBEAT_S, LEASE_S, Stack, wait
from tests.proxy import RESET, SLOW, STALL, Proxy, Trigger

WORKERS, RELAYS = ("worker1", "worker2"), ("relay1", "relay2")
_PATIENCE_S = 120.0  # how long a trigger waits for its moment


class Run(Protocol):
    """What a fault sees of its schedule. `over`: no more is to come; a trigger need not wait any longer."""

    stack: Stack
    random: random.Random
    uploader: songs.Uploader

    @property
    def over(self) -> bool: ...

    def song(self) -> songs.Song:
        """Return the next song of the schedule."""


@dataclass(frozen=True)
class Fault:
    """`repeats`: how many more times than once it explains that a song is begun; `needs_disks`: small ones."""

    name: str
    strike: Callable[[Run], bool]
    repeats: int = 1
    needs_disks: bool = False


def _triggered(parts: tuple[str, ...], to: str, request: bytes, act: Callable[[Run, str], None], after: bool) -> (
    Callable[[Run], bool]
):  # fmt: skip
    """Return a fault that does `act` to the part which sends this request to `to`, whichever does so first."""

    def strike(run: Run) -> bool:
        placed: list[tuple[Proxy, Trigger]] = []
        for part in parts:
            trigger = Trigger(re.compile(request, re.DOTALL), partial(act, run, part), after)
            placed.append((run.stack.proxies[f"{part}-{to}"], trigger))
            placed[-1][0].triggers.append(trigger)

        def struck() -> bool:
            return any(trigger.fired.is_set() for _, trigger in placed)

        wait(lambda: struck() or run.over, _PATIENCE_S, 0.02)
        for proxy, trigger in placed:
            proxy.triggers.remove(trigger)
        return struck()

    return strike


def _kill(run: Run, part: str) -> None:
    run.stack.parts[part].send(signal.SIGKILL)


def _kill_a_little_later(run: Run, part: str) -> None:
    time.sleep(run.random.uniform(0.05, 0.3))
    _kill(run, part)


def _none(run: Run, part: str) -> None:
    """Leave it at the cut of the connection."""


def _sent(number: int, *parts: str, pause_s: float = 0) -> Callable[[Run], bool]:
    """Return a fault that sends a signal to one of these parts; after a pause, SIGCONT."""

    def strike(run: Run) -> bool:
        part = run.stack.parts[run.random.choice(parts)]
        part.send(number)
        if pause_s:
            time.sleep(pause_s * run.random.uniform(1, 1.6))
            part.send(signal.SIGCONT)
        return True

    return strike


def _way(mode: str) -> Callable[[Run], bool]:
    """Return a fault of one way between two parts, for a while."""

    def strike(run: Run) -> bool:
        proxy = run.stack.proxies[run.random.choice(sorted(run.stack.proxies))]
        proxy.mode = mode
        if mode == RESET:
            proxy.cut()
        time.sleep(run.random.uniform(0.5, 3))
        proxy.mode = "pass"
        return True

    return strike


def _flush(run: Run) -> bool:
    run.stack.redis.flushall()
    return True


def _forget_notifications(run: Run) -> bool:
    """Delete the key while nobody takes from it, so that something is lost."""
    with_relays = [run.stack.parts[name] for name in RELAYS]
    for part in with_relays:
        part.send(signal.SIGSTOP)
    run.uploader.put("unannounced", run.song())
    wait(lambda: run.stack.redis.llen("stems:notifications"), 5)
    lost = run.stack.redis.delete("stems:notifications")
    for part in with_relays:
        part.send(signal.SIGCONT)
    return bool(lost)


def _both_down(run: Run) -> bool:
    parts = [run.stack.parts[name] for name in ("redis", "minio")]
    for part in parts:
        part.down()
    time.sleep(run.random.uniform(0.5, 2))
    for part in run.random.sample(parts, 2):
        part.up()
    return True


def _lost_announcements(run: Run) -> bool:
    """Pause Redis, upload, kill MinIO with its announcements: only the sweep brings these songs."""
    run.stack.parts["redis"].send(signal.SIGSTOP)
    try:
        for number in range(2):
            run.uploader.put(f"lost{number}", run.song())
        run.stack.parts["minio"].send(signal.SIGKILL)
        time.sleep(0.3)
    finally:
        run.stack.parts["redis"].send(signal.SIGCONT)
    return True


def _restart(part: str, number: int) -> Callable[[Run], bool]:
    def strike(run: Run) -> bool:
        run.stack.parts[part].down(number)
        time.sleep(run.random.uniform(0, 1))
        run.stack.parts[part].up()
        return True

    return strike


def _disk_full(run: Run) -> bool:
    """Fill the disks of both workers for a while."""
    for disk in run.stack.disks.values():
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'full'}", "bs=64k"], capture_output=True, check=False)
    time.sleep(run.random.uniform(2, 4))
    for disk in run.stack.disks.values():
        (disk / "full").unlink(missing_ok=True)
    return True


def _memory_full(run: Run) -> bool:
    run.stack.redis.config_set("maxmemory", 1)
    time.sleep(run.random.uniform(1, 3))
    run.stack.redis.config_set("maxmemory", 0)
    return True


def _many_announcements(run: Run) -> bool:
    """Have each notification delivered 1 to 5 times, in random order."""
    relays = [run.stack.parts[name] for name in RELAYS]
    for part in relays:
        part.send(signal.SIGSTOP)
    for number in range(3):
        run.uploader.put(f"again{number}", run.song())
    wait(lambda: run.stack.redis.llen("stems:notifications") >= 3, 5)
    found = run.stack.redis.lrange("stems:notifications", 0, -1)
    repeated = [payload for payload in found for _ in range(run.random.randint(1, 5))]
    run.random.shuffle(repeated)
    if repeated:
        pipe = run.stack.redis.pipeline()
        pipe.delete("stems:notifications").rpush("stems:notifications", *repeated)
        pipe.execute()
    for part in relays:
        part.send(signal.SIGCONT)
    return bool(repeated)


def _while_separated(act: Callable[[Run, str], None]) -> Callable[[Run], bool]:
    """Return a fault that strikes a worker which has just said that it separates."""

    def strike(run: Run) -> bool:
        since = {part: run.stack.parts[part].log.stat().st_size for part in WORKERS}

        def working() -> str:
            for part in WORKERS:
                for line in run.stack.lines(part, since[part]):
                    if line.get("message") == "separating":
                        return part
            return ""

        if not wait(lambda: working() or run.over, _PATIENCE_S, 0.02) or not (part := working()):
            return False
        act(run, part)
        return True

    return strike


def _overwrite(run: Run, part: str) -> None:
    """Overwrite the song that is being separated."""
    keys = [line["key"] for line in run.stack.lines(part) if line.get("message") == "separating"]
    name = keys[-1].removeprefix(run.uploader.prefix).removesuffix(".wav")
    run.uploader.put(name, run.song())


def _remove_early(run: Run) -> bool:
    """Upload and remove at once, behind others in the line where there are some."""
    run.uploader.remove(run.uploader.put("regretted", run.song()))
    return True


def _same_bytes(run: Run) -> bool:
    """Upload the same bytes under two more names."""
    same = run.song()
    for name in ("same1", "same2"):
        run.uploader.put(name, same)
    return True


def _no_song(run: Run) -> bool:
    run.uploader.put("no-song", songs.no_song(run.uploader.prefix))
    return True


_FETCH = rb"^GET /queue/\S+\.wav HTTP"
_STEM = rb"^PUT /output/[0-9a-f]{64}-\w+\.mp3"
_RECORD = rb"^PUT /output/[0-9a-f]{64}\.json"
_TAKE = rb"EVALSHA.*stems:waiting\r.*stems:attempts\r.*stems:delivering:"
_SETTLE = rb"EVALSHA.*stems:job:.*stems:pace\r"
_FETCHED = rb"EVALSHA.*stems:notifications\r.*stems:processing:.*stems:relays\r"

FAULTS = (
    Fault("worker killed after the lease", _triggered(WORKERS, "minio", _FETCH, _kill, False)),
    Fault("worker killed while it separates", _while_separated(_kill_a_little_later)),
    Fault("worker killed between two stems", _triggered(WORKERS, "minio", _STEM, _kill, True)),
    Fault("worker killed before the record", _triggered(WORKERS, "minio", _RECORD, _kill, False)),
    Fault("worker killed after the record", _triggered(WORKERS, "minio", _RECORD, _kill, True)),
    Fault("relay killed with payloads it fetched", _triggered(RELAYS, "redis", _FETCHED, _kill, True)),
    Fault("relay killed with a job it took", _triggered(RELAYS, "redis", _TAKE, _kill, True)),
    Fault("relay killed before the answer is entered", _triggered(RELAYS, "redis", _SETTLE, _kill, False)),
    Fault("relay killed after the answer is entered", _triggered(RELAYS, "redis", _SETTLE, _kill, True)),
    Fault("tracks killed", _sent(signal.SIGKILL, "tracks"), repeats=0),
    Fault("worker ended by SIGTERM", _sent(signal.SIGTERM, *WORKERS)),
    Fault("relay ended by SIGTERM", _sent(signal.SIGTERM, *RELAYS)),
    Fault("worker paused for longer than its lease", _sent(signal.SIGSTOP, *WORKERS, pause_s=LEASE_S + 0.5), repeats=2),
    Fault("relay paused until it counts as dead", _sent(signal.SIGSTOP, *RELAYS, pause_s=4 * HEARTBEAT_S), repeats=2),
    Fault("Redis restarted", _restart("redis", signal.SIGTERM)),
    Fault("Redis killed", _restart("redis", signal.SIGKILL)),
    Fault("Redis: FLUSHALL", _flush, repeats=2),
    Fault("the notifications deleted", _forget_notifications, repeats=1),
    Fault("MinIO restarted", _restart("minio", signal.SIGTERM), repeats=2),
    Fault("MinIO killed", _restart("minio", signal.SIGKILL), repeats=2),
    Fault("MinIO and Redis down at once", _both_down, repeats=2),
    Fault("Redis paused, MinIO killed", _lost_announcements, repeats=2),
    Fault("a way reset", _way(RESET), repeats=3),
    Fault("a way stalled", _way(STALL), repeats=2),
    Fault("a way slowed", _way(SLOW), repeats=1),
    Fault("a request to MinIO lost", _triggered(WORKERS, "minio", _RECORD, _none, False)),
    Fault("an answer of MinIO lost", _triggered(WORKERS, "minio", _RECORD, _none, True)),
    Fault("an answer of Redis lost: taken", _triggered(RELAYS, "redis", _TAKE, _none, True)),
    Fault("an answer of Redis lost: entered", _triggered(RELAYS, "redis", _SETTLE, _none, True)),
    Fault("the workers' disks full", _disk_full, repeats=4, needs_disks=True),
    Fault("Redis full (maxmemory)", _memory_full, repeats=2),
    Fault("announced 1 to 5 times, shuffled", _many_announcements, repeats=2),  # the relays are paused for it
    Fault("overwritten while it is separated", _while_separated(_overwrite)),
    Fault("removed before its turn", _remove_early, repeats=0),
    Fault("the same bytes under two names", _same_bytes, repeats=0),
    Fault("bytes that are no song", _no_song, repeats=0),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
