"""The whole pipeline as its own processes: MinIO, Redis, two relays, two workers, tracks; a proxy on every way between.

Unlike `stems_local.stack`, which shows how it is to be run, this one is made to be broken: each part can be killed,
paused or held down alone, and each way between two parts cut, stalled or slowed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
import redis
from botocore.config import Config

from tests.faults.part import Part
from tests.faults.songs import Uploader
from tests.programs import CHECKOUT
from tests.proxy import PASS, Proxy
from tests.servers import DURABLE, REDIS_USERS, free_port, guarded_redis, minio_command, redis_url, refused, until

T = TypeVar("T")
OURS = ("relay1", "relay2", "worker1", "worker2", "tracks")
USERS = ("separate", "tracks", "relay", "uploader")
SECRET = "a-secret-of-tests"
# An upload this old is swept up; in life 10 s, so that its notification comes first.
GRACE_MS = 4_000
# Stems without a record are removed when they are this old; in life after an hour.
ORPHAN_S = 20
RELAY = (
    "from stems.config import Settings; from stems_relay import orphans, relay, sweep;"
    f"sweep.GRACE_MS = {GRACE_MS}; orphans.AGE_S = {ORPHAN_S}; relay.run(Settings.from_env())"
)
LEASE_S = 3.0
HEARTBEAT_S = 1.0
DISK_MB = 48
ATTEMPTS = 5  # of a song, in the tests; as in life
QUICK = {
    "STEMS_MODEL": "untrained",
    # Some of the songs are longer, and go in parts.
    "STEMS_PART_S": "4",
    "STEMS_HEARTBEAT_S": str(HEARTBEAT_S),
    "STEMS_LEASE_S": str(LEASE_S),
    "STEMS_BACKOFF_S": "0.2",
    "STEMS_BACKOFF_MAX_S": "2",
    "STEMS_SWEEP_S": "2",
    "STEMS_GRACE_S": "1",
    "STEMS_DELIVERY_TIMEOUT_S": "60",
    # In the schedules no song dies of the faults of others; what makes a dead letter is a test of its own.
    "STEMS_MAX_ATTEMPTS": "50",
    "STEMS_LOG_FORMAT": "json",
    "OMP_NUM_THREADS": "1",
}
# What supervises is killed, too, at times.
_LEASH = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


class Stack:
    """All parts, their proxies, and clients for whoever looks from outside. A context manager."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("minio", "redis", "worker1", "worker2", "tracks")}
        self._settings = QUICK | settings
        minio, store = self.ports["minio"], self.ports["redis"]
        self.proxies = {
            "minio-redis": Proxy(store),
            "sink": Proxy(self.ports["worker1"], self.ports["worker2"]),
            **{f"{part}-redis": Proxy(store) for part in OURS},
            **{f"{part}-minio": Proxy(minio) for part in OURS},
        }
        self.redis: Any = redis.Redis.from_url(redis_url("admin", store), decode_responses=True, socket_timeout=2)
        self.disks = {name: folder / f"tmp-{name}" for name in ("worker1", "worker2")}
        self.small_disks = False
        self.parts = {part.name: part for part in self._make()}
        self.s3, self.root = self.client("uploader"), self.client("root")
        self.known: set[str] = set()  # the hashes of all songs that were ever uploaded here

    def __enter__(self) -> "Stack":
        try:
            self._mount()
            self.parts["redis"].begin()
            until(self.redis.ping, 60)
            self.parts["minio"].begin()
            self._configure()
            for name in ("worker1", "worker2", "relay1", "relay2", "tracks"):
                self.parts[name].begin()
            self.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("relay1", "relay2", "worker1", "worker2", "tracks", "minio", "redis"):
            self.parts[name].end()
        for proxy in self.proxies.values():
            proxy.close()
        self.redis.close()
        self.s3.close()
        self.root.close()
        if self.small_disks:
            for disk in self.disks.values():
                subprocess.run(["umount", "--lazy", str(disk)], check=False)

    def client(self, user: str) -> Any:
        """Return a real S3 client that asks once and says what it got."""
        once = Config(retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=20)
        url = f"http://127.0.0.1:{self.ports['minio']}"
        return boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=user, aws_secret_access_key=SECRET, region_name="us-east-1",
            config=once,
        )  # fmt: skip

    def uploader(self, prefix: str) -> Uploader:
        """Return somebody who uploads songs whose keys begin so."""
        return Uploader(self.s3, prefix, self.known)

    @property
    def tracks_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['tracks']}"

    def environ(self, user: str, *, s3: int = 0, store: int = 0) -> dict[str, str]:
        """Return the settings of a part or a person, who is `admin` to Redis; ports: of the proxies on its way."""
        known = user if user in REDIS_USERS else "admin"
        return {
            **self._settings,
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{s3 or self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": user,
            "STEMS_S3_SECRET_KEY": SECRET,
            "STEMS_REDIS_URL": redis_url(known, store or self.ports["redis"]),
            "STEMS_URL": self.tracks_url,
            "K_SINK": f"http://127.0.0.1:{self.proxies['sink'].port}/",
        }

    def ready(self, *names: str, timeout_s: float = 600) -> None:
        """Wait until the functions answer."""
        for name in names or ("worker1", "worker2", "tracks"):
            url = f"http://127.0.0.1:{self.ports[name]}/health/ready"
            until(lambda url=url: urllib.request.urlopen(url, timeout=5).close() or True, timeout_s)  # type: ignore[misc]

    def calm(self) -> None:
        """Undo what faults do: everything runs, and every way is open."""
        for proxy in self.proxies.values():
            proxy.mode = PASS
        for part in self.parts.values():
            part.up()
        for disk in self.disks.values():
            (disk / "full").unlink(missing_ok=True)

    def lines(self, part: str, since: int = 0) -> Iterator[Mapping[str, Any]]:
        """Yield what a part has logged behind an offset of its log."""
        with self.parts[part].log.open("rb") as log:
            log.seek(since)
            for line in log:
                if line.startswith(b"{"):
                    try:
                        yield json.loads(line)
                    except ValueError:  # killed in the middle of a word
                        continue

    def refused(self) -> list[str]:
        """Return what Redis has refused to its users since it started, or since this was asked."""
        found = refused(self.redis)
        self.redis.acl_log_reset()
        return found

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold everything down in the block."""
        for part in self.parts.values():
            part.down()
        yield
        for part in self.parts.values():
            part.up()
        until(self.redis.ping, 60)
        self.ready()

    def _make(self) -> Iterator[Part]:
        for folder in ("minio", *(disk.name for disk in self.disks.values())):
            (self.folder / folder).mkdir()
        settings = (*DURABLE, "appenddirname redis", "maxmemory-policy noeviction")
        yield self._part("redis", *guarded_redis(self.folder, self.ports["redis"], *settings))
        yield self._part("minio", minio_command(self.ports["minio"], self.folder / "minio"), self._minio_environ())
        for name in ("relay1", "relay2"):
            yield self._part(name, [sys.executable, "-c", RELAY], self._guided(name, "relay"))
        stems = [sys.executable, "-m", "stems.cli", "serve"]
        for name in ("worker1", "worker2"):
            environ = self._guided(name, "separate") | {"TMPDIR": str(self.disks[name])}
            yield self._part(name, [*stems, "separate", "--port", str(self.ports[name])], environ)
        command = [*stems, "tracks", "--port", str(self.ports["tracks"])]
        yield self._part("tracks", command, self._guided("tracks", "tracks"))

    def _guided(self, name: str, user: str) -> dict[str, str]:
        """Return the settings of a part whose ways go through its proxies."""
        ports = {"s3": self.proxies[f"{name}-minio"].port, "store": self.proxies[f"{name}-redis"].port}
        return self.environ(user, **ports)

    def _part(self, name: str, command: list[str], environ: Mapping[str, str]) -> Part:
        found = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environ}
        return Part(name, [*_LEASH, *command], found, self.folder / f"{name}.log")

    def _minio_environ(self) -> dict[str, str]:
        address = f"127.0.0.1:{self.proxies['minio-redis'].port}"
        notify = {"ENABLE": "on", "ADDRESS": address, "KEY": "stems:notifications", "FORMAT": "access"}
        notify |= {"USER": "minio", "PASSWORD": "minio-password"}
        environ = {f"MINIO_NOTIFY_REDIS_{k}_{target}": v for target in ("FAST", "DURABLE") for k, v in notify.items()}
        environ["MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE"] = str(self.folder / "events")
        root = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": SECRET}
        return environ | root | {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}

    def _configure(self) -> None:
        secrets = {f"STEMS_{user.upper()}_SECRET_KEY": SECRET for user in USERS}
        environ = {**os.environ, **self.environ("root"), **self._minio_environ(), **secrets}
        command = [sys.executable, str(CHECKOUT / "minio-config" / "apply.py")]
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=600)

    def _mount(self) -> None:
        """Give each worker a small disk of its own, where we may mount; else its fault is left out, by name."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs"]
        done = [subprocess.run([*command, str(disk)], capture_output=True, check=False) for disk in self.disks.values()]
        self.small_disks = all(each.returncode == 0 for each in done)


def quietly(look: Callable[[], T]) -> T | None:
    """Return what `look` finds; None while what it asks is away."""
    try:
        return look()
    except Exception:  # a part is down on purpose
        return None


def wait(condition: Any, timeout_s: float, every_s: float = 0.1) -> bool:
    """Tell whether a condition came true in time; unlike `until`, nothing fails."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every_s)
    return False
