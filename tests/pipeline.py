"""A running pipeline as its users see it: upload, look, listen. What the integration tests are written in."""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import redis
import urllib3
from minio import Minio
from numpy.typing import NDArray

from stems import naming
from stems.config import Settings
from stems.jobs import connect
from stems.separate.audio import ffmpeg
from stems_local.stack import Stack
from tests.servers import refused

T = TypeVar("T")
RATE_HZ = 44100


def wait_for(what: str, look: Callable[[], T | None], deadline_s: float = 60) -> T:
    """Return what `look` finds, asking until it finds something; fail after `deadline_s` seconds.

    What may take long is asked for less often: on a cluster, each look is a request through a forwarded port.
    """
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(max(0.02, deadline_s / 3000))
    raise AssertionError(f"waited {deadline_s:g} s for {what}")


def song(path: Path, seed: int, duration_s: float = 3, rate_hz: int = RATE_HZ, channels: int = 2) -> Path:
    """Write a WAV of noise and tones, other ones for each seed."""
    random = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * random.uniform(80, 800) * time_s)[:, None]
    samples = tone + 0.05 * random.standard_normal((len(time_s), channels))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def samples(audio: bytes) -> NDArray[np.float32]:
    """Decode a file; return its samples, of shape (samples, 2)."""
    with tempfile.NamedTemporaryFile() as file:  # from a pipe, ffmpeg would not cut an MP3's padding off
        file.write(audio)
        file.flush()
        command = [ffmpeg(), "-v", "error", "-i", file.name, "-f", "f32le", "-ac", "2", "-"]
        decoded = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(decoded, "<f4").reshape(-1, 2)


class Hands:
    """The hands of the user `uploader` on a running service, wherever it runs. `folder` is mc's own."""

    def __init__(self, settings: Settings, mc: str, folder: Path) -> None:
        self.settings = settings
        self._mc, self._folder = mc, folder
        self.redis: redis.Redis = connect(settings)
        # Tests kill MinIO: the hands wait for it.
        self._http = urllib3.PoolManager(maxsize=8, retries=urllib3.Retry(total=30, backoff_factor=0.1, backoff_max=1))
        self.s3 = Minio(
            settings.s3_endpoint.removeprefix("http://"),
            settings.s3_access_key,
            settings.s3_secret_key,
            secure=False,
            region=settings.s3_region,
            http_client=self._http,
        )

    def close(self) -> None:
        """Close all connections."""
        self.redis.close()
        self._http.clear()

    def mc(self, *arguments: str) -> str:
        """Run mc with the alias `stems`; return what it prints."""
        user = f"{self.settings.s3_access_key}:{self.settings.s3_secret_key}"
        host = self.settings.s3_endpoint.replace("://", f"://{user}@")
        command = [self._mc, "--config-dir", str(self._folder), *arguments]
        environ = {**os.environ, "MC_HOST_stems": host}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    def put(self, path: Path, key: str, metadata: Mapping[str, str] | None = None) -> str:
        """Upload a file; return its etag."""
        return self.s3.fput_object(naming.QUEUE_BUCKET, key, str(path), metadata=dict(metadata or {})).etag or ""

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an upload."""
        return dict(self.s3.get_object_tags(naming.QUEUE_BUCKET, key) or {})

    def ended(self, key: str, etag: str | None = None, deadline_s: float = 60) -> dict[str, str]:
        """Wait until the upload's tags say how it ended, and return them."""

        def look() -> dict[str, str] | None:
            tags = self.tags(key)
            right = etag is None or tags.get("etag") == etag
            return tags if right and tags.get("state") in {"done", "failed"} else None

        return wait_for(f"the end of {key}", look, deadline_s)

    def done(self, key: str, etag: str | None = None, deadline_s: float = 60) -> dict[str, Any]:
        """Wait until the upload is separated, and return its track as the REST function shows it."""
        tags = self.ended(key, etag, deadline_s)
        assert tags["state"] == "done", tags
        found: dict[str, Any] = self.get(f"/v1/tracks/{tags['songhash']}")
        return found

    def job(self, key: str, etag: str) -> dict[str, str]:
        """Return what Redis holds of a job; nothing while Redis is away, as tests have it be."""
        client: Any = self.redis
        try:
            found: dict[str, str] = client.hgetall(naming.job_key(naming.job_id(naming.QUEUE_BUCKET, key, etag)))
        except redis.ConnectionError:
            return {}
        return found

    def in_the_middle(self, key: str, etag: str, deadline_s: float = 60) -> None:
        """Wait until a song is being separated, and neither at the start nor at the end."""

        def look() -> bool:
            job = self.job(key, etag)
            return job.get("state") == "separating" and 0.1 < float(job.get("progress", 0)) < 0.7

        wait_for(f"the middle of {key}", look, deadline_s)

    def settled(self, key: str, etag: str, deadline_s: float = 60) -> dict[str, str]:
        """Wait until the relay has entered the end of a job, and return the job's hash."""

        def look() -> dict[str, str] | None:
            job = self.job(key, etag)
            return job if job.get("state") in {"done", "failed", "gone"} else None

        return wait_for(f"the job of {key}", look, deadline_s)

    def get(self, path: str) -> Any:
        """GET JSON from the REST function; a problem comes back as its JSON, too."""
        try:
            with self._open(path) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def download(self, path: str) -> bytes:
        """GET bytes from the REST function."""
        with self._open(path) as answer:
            return bytes(answer.read())

    def _open(self, path: str) -> Any:
        request = urllib.request.Request(self.settings.tracks_url + path)
        if self.settings.token:  # which is for the REST function alone: a presigned address says itself who may read
            request.add_unredirected_header("Authorization", f"Bearer {self.settings.token}")
        return urllib.request.urlopen(request, timeout=30)

    def refused(self) -> list[str]:
        """Return what Redis refused to its users."""
        return refused(self.redis)

    def queue(self) -> Any:
        """Return what stands in line."""
        return self.get("/v1/queue")


class Pipeline(Hands):
    """A stack, and hands on it."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(Settings.from_env(stack.environ("uploader")), stack.programs.mc, stack.root / "mc")
        self.stack = stack
