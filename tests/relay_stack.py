"""A relay between a real MinIO, a real Redis and a sink whose answers each test scripts."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio
from minio.commonconfig import Tags

from stems import division, jobs, naming
from stems.config import Settings
from stems.contract import Upload
from stems.division import Wanted
from tests.programs import CHECKOUT
from tests.servers import DURABLE, free_port, guarded_redis, minio_command, redis_url, refused, until

USERS = ("separate", "tracks", "relay", "uploader")
SECRET = "a-secret-of-tests"
RELAY = "from stems.config import Settings; from stems_relay.relay import run; run(Settings.from_env())"
# A relay that sweeps young uploads too: no test waits until one is old.
SWEEPER = f"from stems_relay import sweep; sweep.GRACE_MS = -3_600_000; {RELAY}"
QUICK = {
    "STEMS_BACKOFF_S": "0.05",
    "STEMS_BACKOFF_MAX_S": "1",
    "STEMS_HEARTBEAT_S": "0.3",
    "STEMS_SWEEP_S": "600",  # tests that need a sweep say so
    "STEMS_GRACE_S": "0",
    "STEMS_MAX_IN_FLIGHT": "4",
    "STEMS_LOG_FORMAT": "text",
}
RECORD: dict[str, Any] = {
    "eventName": "s3:ObjectCreated:Put",
    "eventTime": "2026-11-22T05:00:00.000Z",
    "s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3", "eTag": "e", "sequencer": "18A0000000000000"}},
}


def ended(process: subprocess.Popen[bytes], number: int, timeout_s: float = 20) -> None:
    process.send_signal(number)
    process.wait(timeout_s)


@dataclass(frozen=True)
class Delivery:
    """A request as the sink got it. `at`: monotonic seconds; `together`: how many were in work then; `part`: of a
    divided song, or empty."""

    upload: Upload
    headers: Mapping[str, str]
    body: bytes
    at: float
    together: int
    part: str = ""


@dataclass
class Reply:
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Sink:
    """A sink on a port of its own. It answers 200, or what `script` holds for the key, or for the key and the part of
    a song, with a blank between; held keys wait."""

    def __init__(self) -> None:
        self.port = free_port()
        self.deliveries: list[Delivery] = []
        self.script: dict[str, list[Reply]] = {}
        self._held: dict[str, threading.Event] = {}
        self._together = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.open()

    def open(self) -> None:
        if self._server:
            return
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = sink.take(dict(self.headers.items()), body)
                with contextlib.suppress(OSError):  # the relay was killed
                    self.send_response(reply.status)
                    for name, value in {"content-length": str(len(reply.body.encode())), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self.release()
        self._server.server_close()  # joins the threads of requests
        self._server = None

    def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        asked, _ = division.from_http(headers, body)
        upload, part = (asked.upload, asked.name) if isinstance(asked, Wanted) else (asked, "")
        with self._lock:
            self._together += 1
            self.deliveries.append(Delivery(upload, headers, body, time.monotonic(), self._together, part))
            held, script = self._held.get(upload.key), self.script.get(f"{upload.key} {part}".strip(), [])
            reply = script.pop(0) if len(script) > 1 else script[0] if script else Reply()
        if held:
            held.wait(60)
        with self._lock:
            self._together -= 1
        return reply

    def hold(self, *keys: str) -> None:
        self._held |= {key: threading.Event() for key in keys}

    def release(self, *keys: str) -> None:
        for key in keys or tuple(self._held):
            self._held.pop(key).set()

    def of(self, key: str) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.upload.key == key]

    def keys(self) -> list[str]:
        return [delivery.upload.key for delivery in self.deliveries]


class Stack:
    """MinIO and Redis on free ports, with the users and buckets of minio-config, and any number of relays."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sink = folder, Sink()
        self.relays: list[subprocess.Popen[bytes]] = []
        self.ports = {"redis": free_port(), "minio": free_port()}
        self.environ = {
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": "relay",
            "STEMS_S3_SECRET_KEY": SECRET,
            "STEMS_REDIS_URL": redis_url("relay", self.ports["redis"]),
            "K_SINK": f"http://127.0.0.1:{self.sink.port}/",
            "MINIO_ROOT_USER": "root",
            "MINIO_ROOT_PASSWORD": SECRET,
            **{f"STEMS_{user.upper()}_SECRET_KEY": SECRET for user in USERS},
        }
        admin = {"STEMS_REDIS_URL": redis_url("admin", self.ports["redis"])}
        self.redis: Any = jobs.connect(Settings.from_env(admin))
        self.jobs = jobs.Jobs(self.redis)
        self.http = urllib3.PoolManager(retries=False, timeout=20)
        self.s3, self.root = (
            Minio(f"127.0.0.1:{self.ports['minio']}", user, SECRET, secure=False, http_client=self.http)
            for user in ("uploader", "root")
        )
        self.redis_server = self.start_redis()
        self.minio_server = self._start_minio()

    def start_redis(self) -> subprocess.Popen[bytes]:
        command, environ = guarded_redis(self.folder, self.ports["redis"], *DURABLE)
        self.redis_server = subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.DEVNULL)
        until(self.redis.ping)
        return self.redis_server

    def _start_minio(self) -> subprocess.Popen[bytes]:
        address = f"127.0.0.1:{self.ports['redis']}"
        notify = {"ENABLE": "on", "ADDRESS": address, "KEY": naming.NOTIFICATIONS, "FORMAT": "access"}
        notify |= {"USER": "minio", "PASSWORD": "minio-password"}
        environ = {f"MINIO_NOTIFY_REDIS_{k}_{target}": v for target in ("FAST", "DURABLE") for k, v in notify.items()}
        environ["MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE"] = str(self.folder / "events")
        command = minio_command(self.ports["minio"], self.folder / "minio")
        environ |= {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        return subprocess.Popen(command, env=os.environ | self.environ | environ, stdout=subprocess.DEVNULL)

    def configure(self, targets: str) -> None:
        """Apply minio-config. With one target, no second announcement comes 3 s later, in the midst of a test."""
        command = [sys.executable, str(CHECKOUT / "minio-config" / "apply.py")]
        environ = os.environ | self.environ | {"STEMS_NOTIFY_TARGETS": targets}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def relay(self, program: str = RELAY, **settings: str) -> subprocess.Popen[bytes]:
        environ = os.environ | self.environ | QUICK | settings
        with (self.folder / "relay.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", program], env=environ, stderr=log)
        self.relays.append(process)
        mark = f"-{process.pid}-"  # the relay's name has its process id in it
        until(
            lambda: process.poll() is not None or any(mark in name for name in self.redis.zrange(naming.RELAYS, 0, -1)),
            100,
        )
        assert process.poll() is None, "the relay does not start"
        return process

    def reset(self) -> None:
        """End what a test left running and forget what it did."""
        for relay in self.relays:
            if relay.poll() is None:
                relay.send_signal(signal.SIGCONT)
                relay.kill()
                relay.wait()
        self.relays.clear()
        self.sink.open()
        self.sink.release()
        self.sink.script.clear()
        for item in self.root.list_objects("queue", recursive=True):
            self.root.remove_object("queue", item.object_name or "")
        until(lambda: self.sink._together == 0)
        self.sink.deliveries.clear()
        self.redis.flushall()

    def stop(self) -> None:
        self.reset()
        self.sink.close()
        denied = refused(self.redis)
        for process in (self.redis_server, self.minio_server):
            process.kill()
            process.wait()
        self.redis.close()
        self.http.clear()
        assert not denied, "events/users.conf allows less than the relay needs"

    def put(self, key: str, data: bytes = b"", **options: str) -> str:
        body, metadata = data or key.encode(), {name.replace("_", "-"): value for name, value in options.items()}
        return self.s3.put_object("queue", key, BytesIO(body), len(body), metadata=dict(metadata)).etag or ""

    def announce(self, *keys: str) -> list[str]:
        """Put uploads one after the other, while no relay runs, and return the ids of their jobs."""
        jobs = []
        for count, key in enumerate(keys, start=1):
            jobs.append(naming.job_id("queue", key, self.put(key)))
            until(lambda count=count: self.redis.llen(naming.NOTIFICATIONS) == count)  # type: ignore[misc]
        return jobs

    def tags(self, key: str) -> Mapping[str, str]:
        return dict(self.root.get_object_tags("queue", key) or {})

    def tag(self, key: str, **tags: str) -> None:
        made = Tags.new_object_tags()
        made.update(tags)
        self.root.set_object_tags("queue", key, made)

    def job(self, key: str, etag: str) -> Mapping[str, str]:
        return dict(self.redis.hgetall(naming.job_key(naming.job_id("queue", key, etag))))

    def idle(self) -> bool:
        """Tell whether nothing is on its way any more; looks in the order in which songs go: none slips past."""
        if self.redis.llen(naming.NOTIFICATIONS):
            return False
        if any(self.redis.llen(naming.processing_key(relay)) for relay in self.redis.zrange(naming.RELAYS, 0, -1)):
            return False
        view = self.jobs.view()
        return not (view.waiting or view.running)
