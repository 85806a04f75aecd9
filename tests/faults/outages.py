"""Faults of whole parts, of the ways between them, and of what they keep."""

import signal
import subprocess
import time

from tests.faults.run import RELAYS, Run, Strike
from tests.faults.songs import Accepted
from tests.faults.stack import quietly, wait
from tests.proxy import PASS, RESET, STALL
from tests.servers import until

_NOTIFICATIONS = "stems:notifications"
_ANNOUNCED_S = 10.0  # MinIO repeats what it has stored within 3 s


def sent(number: int, *parts: str, pause_s: float = 0) -> Strike:
    """Return a fault that sends a signal to one of these parts; after a pause, SIGCONT."""

    def strike(run: Run) -> bool:
        part = run.stack.parts[run.random.choice(parts)]
        part.send(number)
        if pause_s:
            time.sleep(pause_s * run.random.uniform(1, 1.6))
            part.send(signal.SIGCONT)
        return True

    return strike


def way(mode: str) -> Strike:
    """Return a fault of one way between two parts, for a while."""

    def strike(run: Run) -> bool:
        proxy = run.stack.proxies[run.random.choice(sorted(run.stack.proxies))]
        proxy.mode = mode
        if mode == RESET:
            proxy.cut()
        time.sleep(run.random.uniform(0.5, 3))
        proxy.mode = PASS
        return True

    return strike


def restart(part: str, number: int) -> Strike:
    """Return a fault that ends a part by a signal, and starts it again after a moment."""

    def strike(run: Run) -> bool:
        run.stack.parts[part].down(number)
        time.sleep(run.random.uniform(0, 1))
        run.stack.parts[part].up()
        return True

    return strike


def both_down(run: Run) -> bool:
    """Kill Redis and MinIO, and start them in any order."""
    parts = [run.stack.parts[name] for name in ("redis", "minio")]
    for part in parts:
        part.down()
    time.sleep(run.random.uniform(0.5, 2))
    for part in run.random.sample(parts, 2):
        part.up()
    return True


def flush(run: Run) -> bool:
    """Have Redis forget everything."""
    until(run.stack.redis.flushall)
    return True


def forget_notifications(run: Run) -> bool:
    """Delete the key while nobody takes from it, when both targets have announced an upload: it is lost for certain."""
    store, relays = run.stack.redis, [run.stack.parts[name] for name in RELAYS]
    for part in relays:
        part.send(signal.SIGSTOP)
    upload = run.put("unannounced", run.song())
    wait(lambda: quietly(lambda: _announced(run, upload) >= 2), _ANNOUNCED_S)
    lost = quietly(
        lambda: _announced(run, upload) >= 2 and bool(store.delete(_NOTIFICATIONS)) and not _heard(run, upload)
    )
    for part in relays:
        part.send(signal.SIGCONT)
    if lost:
        run.only_swept.append(upload)
    return bool(lost)


def lose_announcements(run: Run) -> bool:
    """Pause Redis, upload, kill MinIO, and take away what it had stored for Redis."""
    store, minio, between = run.stack.parts["redis"], run.stack.parts["minio"], run.stack.proxies["minio-redis"]
    store.send(signal.SIGSTOP)
    between.mode = STALL  # what the target FAST says is lost with its connection
    try:
        uploads = [run.put(f"lost{number}", run.song()) for number in range(2)]
        minio.down()
        between.cut()
        for path in (run.stack.folder / "events").rglob("*"):  # of the target DURABLE
            if path.is_file():
                path.unlink()
        lost = not minio.runs
    finally:
        between.mode = PASS
        store.send(signal.SIGCONT)
    until(run.stack.redis.ping)
    # Another fault of the schedule may have let one of them speak.
    lost = lost and not any(_heard(run, upload) or _announced(run, upload) for upload in uploads)
    minio.up()
    if lost:
        run.only_swept.extend(uploads)
    return lost


def fill_disks(run: Run) -> bool:
    """Fill the disks of both workers for a while."""
    for disk in run.stack.disks.values():
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'full'}", "bs=64k"], capture_output=True, check=False)
    time.sleep(run.random.uniform(2, 4))
    for disk in run.stack.disks.values():
        (disk / "full").unlink(missing_ok=True)
    return True


def fill_redis(run: Run) -> bool:
    """Let Redis have no memory to write for a while."""
    until(lambda: run.stack.redis.config_set("maxmemory", 1))
    time.sleep(run.random.uniform(1, 3))
    until(lambda: run.stack.redis.config_set("maxmemory", 0))
    return True


def _announced(run: Run, upload: Accepted) -> int:
    """Return how many notifications wait that tell of an upload."""
    return sum(upload.key in payload for payload in run.stack.redis.lrange(_NOTIFICATIONS, 0, -1))


def _heard(run: Run, upload: Accepted) -> bool:
    """Tell whether a relay knows of an upload."""
    return bool(run.stack.redis.exists(f"stems:job:{upload.job}"))
