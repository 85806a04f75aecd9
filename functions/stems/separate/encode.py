"""Encoding: one ffmpeg child makes all files of a song from its raw stems, while these still grow.

One child with a thread for each file takes 34 MiB, four children with one file each take 120. Beside a separation it
has the lowest priority but one that gets anything on a busy machine: the network's threads wait for each other, so
whatever takes a core from one of them holds up both.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from stems.errors import EncodeFailed
from stems.options import extension, quality
from stems.separate import headers, leash
from stems.separate.audio import ffmpeg, frame_bytes

_CHUNK_BYTES = 1 << 18
_NICE = 10
_POLL_S = 0.2
_KILLED_S = 5.0

# The Xing/LAME header, which ffmpeg writes by itself, lets players cut the encoder's padding off again. Level 7 takes
# half the time of LAME's default at this rate, and is nearer to the stem: README.md has the figures.
_MP3 = ("-c:a", "libmp3lame", "-f", "mp3")
_CBR = ("-compression_level", "7")
_VBR = ("-compression_level", "5")  # where the rate varies, 7 is audibly worse
_DEPTHS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("flac", "24"): ("-c:a", "flac", "-sample_fmt", "s32", "-bits_per_raw_sample", "24"),
    ("flac", "16"): ("-c:a", "flac", "-sample_fmt", "s16"),
    ("wav", "24"): ("-c:a", "pcm_s24le"),
    ("wav", "16"): ("-c:a", "pcm_s16le"),
    ("wav", "32f"): ("-c:a", "pcm_f32le"),
}
# RF64 only beyond 4 GiB, which a 24-bit song reaches after four hours.
_CONTAINERS: Mapping[str, tuple[str, ...]] = {"flac": ("-f", "flac"), "wav": ("-rf64", "auto", "-f", "wav")}
_WITH_COVER = frozenset({"mp3", "flac"})


@dataclass(frozen=True, slots=True)
class Encoding:
    """One file to make: `spool`, raw interleaved float32, to `out` in a format of stems.options.

    `tags` become the file's metadata.
    """

    spool: Path
    out: Path
    format: str
    tags: Mapping[str, str]


class Encoder:
    """Makes files of raw ones that may still grow, all multiplied by `gain`. A context manager: its end is the child's.

    `cover`: a JPEG file, for the formats that can hold one. `aside`: at a low priority, beside a separation.
    """

    def __init__(
        self,
        encodings: Sequence[Encoding],
        sample_rate_hz: int,
        channels: int,
        *,
        gain: float = 1.0,
        cover: Path | None = None,
        aside: bool = True,
    ) -> None:
        self._encodings = encodings
        self._rate_hz = sample_rate_hz
        self._frame_bytes = frame_bytes(channels)
        self._ready = self._fed = 0
        self._whole = self._stopped = False
        self._news = threading.Condition()
        spools = list(dict.fromkeys(each.spool for each in encodings))
        pipes = [os.pipe() for _ in spools]
        try:
            command = _command(encodings, [read for read, _ in pipes], spools, sample_rate_hz, channels, gain, cover)
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[read for read, _ in pipes],
                process_group=0,
                env=leash.environ(),
            )
        except BaseException:
            for _, write in pipes:
                os.close(write)
            raise
        finally:
            for read, _ in pipes:
                os.close(read)
        if aside:
            with suppress(OSError):  # its threads, which come after its first byte of sound, have it from the first
                os.setpriority(os.PRIO_PROCESS, self._child.pid, _NICE)
        self._told: list[bytes] = []
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        for spool, (_, write) in zip(spools, pipes, strict=True):
            out = os.fdopen(write, "wb", buffering=0)
            self._threads.append(threading.Thread(target=self._feed, args=(spool, out), daemon=True))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def grow(self, length: int) -> None:
        """Say that each raw file holds `length` samples by now."""
        with self._news:
            self._ready = length * self._frame_bytes
            self._news.notify_all()

    def finish(self, length: int, on_wait: Callable[[float], None] = lambda part: None) -> None:
        """Wait for the files of the raw ones, which are whole with `length` samples, and check how long they are.

        `on_wait` is told the part done, some times a second. Raises EncodeFailed, with no file left, where ffmpeg
        fails or a file is not as long as the stem.
        """
        with self._news:
            self._ready, self._whole = length * self._frame_bytes, True
            self._news.notify_all()
        feeders = len(self._threads) - 1
        while True:
            try:
                self._child.wait(_POLL_S)
                break
            except subprocess.TimeoutExpired:
                on_wait(self._fed / max(self._ready * feeders, 1))
        for thread in self._threads:
            thread.join()
        if self._child.returncode != 0:
            lines = b"".join(self._told).decode(errors="replace").splitlines()
            self._fail(f"ffmpeg could not write the stems: {lines[-1] if lines else self._child.returncode}")
        for each in self._encodings:
            try:
                if extension(each.format) == "mp3":
                    headers.mend_mp3(each.out, length)
                made = headers.read(each.out)
            except (OSError, ValueError) as error:
                self._fail(f"{each.out.name} was not written as it should be: {error}")
            if (made.length, made.sample_rate_hz) != (length, self._rate_hz):
                self._fail(
                    f"{each.out.name} has {made.length} samples at {made.sample_rate_hz} Hz; "
                    f"the stem has {length} at {self._rate_hz} Hz"
                )

    def stop(self) -> None:
        """End the child, if it has not ended by itself."""
        with self._news:
            self._stopped = True
            self._news.notify_all()
        self._child.kill()
        for thread in self._threads:
            thread.join(_KILLED_S)
        self._child.wait(_KILLED_S)
        if self._child.stderr:
            self._child.stderr.close()

    def _fail(self, reason: str) -> None:
        for each in self._encodings:
            each.out.unlink(missing_ok=True)
        raise EncodeFailed(reason)

    def _listen(self) -> None:
        assert self._child.stderr is not None
        for line in iter(lambda: self._child.stderr.readline(4096), b""):  # type: ignore[union-attr]
            self._told = [*self._told[-20:], line]

    def _feed(self, spool: Path, out: IO[bytes]) -> None:
        """Give the child one raw file, as far as it has grown."""
        done = 0
        with suppress(BrokenPipeError), out, spool.open("rb", buffering=0) as raw:
            while left := self._left(done):
                data = memoryview(raw.read(min(_CHUNK_BYTES, left)))
                if not data:
                    return  # the file is shorter than was said: the check of the lengths tells of it
                while data:
                    written = out.write(data)
                    data = data[written:]
                    done += written
                    with self._news:
                        self._fed += written

    def _left(self, done: int) -> int:
        """Wait until there is more of the raw files than `done` bytes, and return how much; 0 at the end."""
        with self._news:
            self._news.wait_for(lambda: self._stopped or self._whole or self._ready > done)
            return 0 if self._stopped else self._ready - done


def _command(
    encodings: Sequence[Encoding],
    pipes: Sequence[int],
    spools: Sequence[Path],
    sample_rate_hz: int,
    channels: int,
    gain: float,
    cover: Path | None,
) -> list[str]:
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "error", "-y"]
    for pipe in pipes:
        command += ["-f", "f32le", "-ar", str(sample_rate_hz), "-ac", str(channels), "-i", f"pipe:{pipe}"]
    if cover:
        command += ["-f", "jpeg_pipe", "-i", f"file:{cover}"]
    for each in encodings:
        kind = extension(each.format)
        command += ["-map", f"{spools.index(each.spool)}:a"]
        if cover and kind in _WITH_COVER:
            command += ["-map", f"{len(spools)}:v", "-c:v", "copy", "-disposition:v", "attached_pic"]
        if gain != 1:
            command += ["-af", f"volume={gain!r}:precision=float"]
        for key, value in each.tags.items():
            command += ["-metadata", f"{key}={value}".replace("\0", "")]
        command += [*_arguments(each.format), f"file:{each.out}"]
    return command


def _arguments(format: str) -> tuple[str, ...]:
    """Return how ffmpeg is told to make a format."""
    kind, made_at = extension(format), quality(format)
    if kind != "mp3":
        return (*_DEPTHS[kind, made_at], *_CONTAINERS[kind])
    if made_at.startswith("v"):
        return (*_MP3, "-q:a", made_at[1:], *_VBR)
    return (*_MP3, "-b:a", f"{made_at}k", *_CBR)
