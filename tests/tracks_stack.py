"""The REST function as its users meet it: gunicorn, MinIO and Redis are real, tracks are put in the bucket by hand."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio
from minio.error import S3Error

from stems import jobs, naming
from stems.config import Settings
from stems.contract import Upload
from stems.index import Index
from stems.record import Asked, ModelInfo, Stem, Track
from stems.storage import Storage
from stems.tracks.intake import Intake
from tests.programs import CHECKOUT
from tests.servers import free_port, guarded_redis, minio_command, redis_url, refused, until

USER, PASSWORD = "tracks-test", "tracks-test-secret"
CONFIG = CHECKOUT / "functions" / "stems" / "tracks" / "gunicorn.conf.py"
SONG = bytes(range(256)) * 4  # 1024 bytes, every one known by its place
MB = 1 << 20


class Stack:
    """MinIO, Redis and the function, each to be killed and started again on its port."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config = CONFIG
        self.ports = {name: free_port() for name in ("minio", "redis", "tracks")}
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        # The two names of this machine stand for the endpoint inside and the one for people.
        self.environ = {
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['minio']}",
            "STEMS_S3_PUBLIC_ENDPOINT": f"http://localhost:{self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": USER,
            "STEMS_S3_SECRET_KEY": PASSWORD,
            "STEMS_REDIS_URL": redis_url("tracks", self.ports["redis"]),
            "STEMS_APIV1_MAX_MB": "20",
            **(environ or {}),
        }
        self.settings = Settings.from_env(self.environ)
        self.http = urllib3.PoolManager(retries=False, timeout=20)
        self.s3 = Minio(f"127.0.0.1:{self.ports['minio']}", USER, PASSWORD, secure=False, http_client=self.http)
        # Not the hands of the function: they put in place what others do, too.
        admin = {"STEMS_REDIS_URL": redis_url("admin", self.ports["redis"])}
        self.redis: Any = jobs.connect(Settings.from_env(admin))
        self.index = Index(self.redis, Storage(self.settings))
        self.jobs = jobs.Jobs(self.redis)

    def start(self, name: str) -> None:
        port = self.ports[name]
        if name == "minio":
            command = minio_command(port, self.folder / "minio")
            environ = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD}
        elif name == "redis":
            command, environ = guarded_redis(self.folder, port)
        else:
            command = [sys.executable, "-m", "gunicorn", "--config", str(self.config), "--bind", f"127.0.0.1:{port}"]
            command.append("stems.tracks.app:create_app()")
            environ = {**self.environ, "PYTHONPATH": str(CHECKOUT / "functions")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(
                command, env={**os.environ, **environ}, cwd=self.folder, stdout=log, stderr=log
            )
        ready: Mapping[str, Callable[[], object]] = {
            "minio": lambda: self.http.request("GET", f"http://127.0.0.1:{port}/minio/health/ready").status == 200,
            "redis": self.redis.ping,
            "tracks": lambda: self.get("/health/live").status == 200,
        }
        until(ready[name])

    def kill(self, name: str) -> None:
        program = self.programs.pop(name)
        program.send_signal(signal.SIGTERM if name == "tracks" else signal.SIGKILL)
        program.wait(40)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['tracks']}"

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Any:
        return self.http.request(method, self.url + path, headers=headers, redirect=False)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Send JSON, or bytes as they are; nothing without a body."""
        options: dict[str, Any] = {"headers": headers}
        if isinstance(body, bytes):
            options["body"] = body
        elif body is not None:
            options["json"] = body
        return self.http.request(method, self.url + path, redirect=False, **options)

    def upload(self, key: str, body: bytes = SONG) -> Upload:
        """Put a song into the bucket `queue`, as anybody does."""
        etag = self.s3.put_object("queue", key, io.BytesIO(body), len(body)).etag or ""
        return Intake(self.settings).upload(key, etag)

    def open(self, path: str) -> Any:
        """Ask with a client of its own and leave the body unread."""
        pool = urllib3.HTTPConnectionPool("127.0.0.1", self.ports["tracks"], timeout=20)
        response = pool.request("GET", path, preload_content=False, retries=False)
        assert response.status in (200, 206)
        return response

    def tag(self, upload: Upload, state: str) -> None:
        Storage(self.settings).tag(upload, state)

    def put(
        self,
        number: int,
        *,
        name: str = "Song.mp3",
        created_ms: int | None = None,
        upload: Upload | None = None,
        peaks: bool = False,
        options: Asked | None = None,
        **stems: bytes,
    ) -> Track:
        """Put a track in the bucket: stems are given as `vocals_mp3=...`."""
        songhash = hashlib.sha256(str(number).encode()).hexdigest()
        made = tuple(self.put_stem(songhash, *given.split("_"), body=body) for given, body in stems.items())
        model = ModelInfo("htdemucs", "0" * 64, "fp32")
        created_ms = 1_700_000_000_000 + number if created_ms is None else created_ms
        track = Track(
            songhash,
            name,
            "queue",
            upload.key if upload else f"in/{name}",
            upload.etag if upload else "e" * 32,
            180.5,
            44100,
            2,
            model,
            created_ms,
            made,
            {"fetch": 0.1},
            naming.peaks_object(songhash) if peaks else "",
            options,
        )
        if peaks:
            body = {"length": 2, "sample_rate_hz": 44100, "stems": {"vocals": [0, 255]}}
            self.put_object(track.peaks, json.dumps(body).encode())
        self.put_object(naming.record_object(songhash), track.to_json())
        return track

    def put_stem(self, songhash: str, stem: str, format: str, *, body: bytes) -> Stem:
        name = naming.stem_object(songhash, stem, format)
        return Stem(stem, format, name, len(body), self.put_object(name, body), 0.0)

    def put_object(self, name: str, body: bytes) -> str:
        return self.s3.put_object("output", name, io.BytesIO(body), len(body)).etag or ""

    def clear(self) -> None:
        for bucket in ("output", "queue"):
            for item in self.s3.list_objects(bucket, recursive=True):
                self.s3.remove_object(bucket, item.object_name or "")
        self.redis.flushall()

    def worker(self) -> Path:
        """The folder in /proc of gunicorn's worker."""
        master = self.programs["tracks"].pid
        (child,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return Path("/proc") / child

    def rss_mb(self) -> float:
        (line,) = (line for line in (self.worker() / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


def problem(response: Any, status: int, *words: str) -> None:
    """Assert that the answer is a problem of this status whose detail has these words."""
    assert response.status == status, response.data
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.data)
    assert body["status"] == status
    for word in words:
        assert word in body["detail"]
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1


def url(track: Track, stem: str = "vocals.mp3") -> str:
    return f"/v1/tracks/{track.songhash}/{stem}"


@contextmanager
def running(folder: Path, **environ: str) -> Iterator[Stack]:
    """Run the function and its servers; at the end, nothing unforeseen must stand in its log."""
    stack = Stack(folder, environ)
    try:
        for name in ("minio", "redis"):
            stack.start(name)
        for bucket in ("output", "queue"):
            until(partial(_made, stack, bucket))
        stack.start("tracks")
        yield stack
        assert "unforeseen error" not in (stack.folder / "tracks.log").read_text()
        assert not refused(stack.redis), "events/users.conf allows less than the function needs"
    finally:
        for name in list(stack.programs):
            stack.kill(name)
        stack.redis.close()
        stack.http.clear()


def _made(stack: Stack, bucket: str) -> bool:
    """Make a bucket; MinIO says that it is ready a moment before it is."""
    try:
        stack.s3.make_bucket(bucket)
    except S3Error as error:
        if error.code != "XMinioServerNotInitialized":
            raise
        return False
    return True
