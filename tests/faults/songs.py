"""Uploads as a client makes them, and what it may expect of each: songs of some seconds, distinct by their seed."""

import hashlib
import io
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import botocore.exceptions
import numpy as np

from stems import naming

RATE_HZ = 44100
BUCKET = "queue"
LONG = 6


@dataclass(frozen=True)
class Song:
    """Bytes of a song; `samples`: its length; 0: it is none, and must become a dead letter."""

    data: bytes
    samples: int

    @cached_property
    def songhash(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def etag(self) -> str:
        return hashlib.md5(self.data).hexdigest()


@dataclass(frozen=True)
class Accepted:
    """An upload that MinIO has taken: by its answer it will never be lost. `at`: monotonic seconds of the answer."""

    key: str
    song: Song
    at: float

    @property
    def job(self) -> str:
        return naming.job_id(BUCKET, self.key, self.song.etag)


def make(seed: str, divided: bool | None = None) -> Song:
    """Return a song of noise and a tone, other ones for each seed; one in four, where it is not said, is long enough to
    be divided.
    """
    source = np.random.default_rng(list(seed.encode()))
    length_s, chance = source.uniform(1.5, 2.5), source.random()
    samples = int(length_s * RATE_HZ * (LONG if (chance >= 0.75 if divided is None else divided) else 1))
    tone = 0.3 * np.sin(2 * np.pi * source.uniform(80, 800) * np.arange(samples) / RATE_HZ)[:, None]
    sound = tone + 0.05 * source.standard_normal((samples, 2))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((sound.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return Song(out.getvalue(), samples)


def no_song(seed: str) -> Song:
    """Return bytes that are no song."""
    return Song(f"these are the words of no song, {seed}".encode() * 20, 0)


class Uploader:
    """A client with the keys of one schedule; it repeats what was refused until it is accepted.

    `known` takes the hashes of all that it ever sent.
    """

    def __init__(self, s3: Any, prefix: str, known: set[str]) -> None:
        self._s3, self.prefix, self._known = s3, prefix, known
        self.accepted: list[Accepted] = []  # also what was overwritten or removed since
        self.now: dict[str, Accepted] = {}

    def put(self, name: str, song: Song) -> Accepted:
        """Upload under a name, or overwrite what is there."""
        key = f"{self.prefix}{name}.wav"
        self._known.add(song.songhash)
        self._insist(lambda: self._s3.put_object(Bucket=BUCKET, Key=key, Body=song.data))
        upload = Accepted(key, song, time.monotonic())
        self.accepted.append(upload)
        self.now[key] = upload
        return upload

    def remove(self, upload: Accepted) -> None:
        """Remove an upload."""
        self._insist(lambda: self._s3.delete_object(Bucket=BUCKET, Key=upload.key))
        self.now.pop(upload.key)

    def _insist(self, ask: Callable[[], object], timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                ask()
                return
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
