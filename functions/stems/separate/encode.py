"""Encoding: the blocks of the stems go to raw spool files, and from there through ffmpeg to mp3, FLAC or WAV.

Raw files in between, because the gain that keeps the loudest stem from clipping is known only at the song's end.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from stems.errors import BadOptions, EncodeFailed
from stems.options import COMPLEMENT
from stems.separate.audio import ffmpeg
from stems.separate.engine import Block, Signal

_PEAK = 0.999


# ffmpeg's encoder and container for each of stems.options.FORMATS.
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    # The Xing/LAME header, which ffmpeg writes by itself, lets players cut the encoder's padding off again.
    "mp3": ("-c:a", "libmp3lame", "-b:a", "320k", "-compression_level", "2", "-f", "mp3"),
    "flac": ("-c:a", "flac", "-sample_fmt", "s32", "-bits_per_raw_sample", "24", "-f", "flac"),
    # RF64 only beyond 4 GiB, which a 24-bit song reaches after four hours.
    "wav": ("-c:a", "pcm_s24le", "-rf64", "auto", "-f", "wav"),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """One file to make: `spool`, raw interleaved float32, times `gain`, to `out` in one of stems.options.FORMATS.

    `tags` become the file's metadata.
    """

    spool: Path
    out: Path
    format: str
    sample_rate_hz: int
    channels: int
    gain: float
    tags: Mapping[str, str]


class Spool:
    """Raw files of the wanted stems in `folder`, and the `peak` of all samples written. A context manager.

    A wanted stem is one of `sources`, or `no_<source>`: the song minus that source. Raises BadOptions for any other.
    """

    def __init__(self, folder: Path, sources: Sequence[str], wanted: Iterable[str]) -> None:
        self._folder = folder
        self._sources = {stem: stem if stem in sources else stem.removeprefix(COMPLEMENT) for stem in wanted}
        for stem, source in self._sources.items():
            if source not in sources:
                known = ", ".join([*sources, *(COMPLEMENT + each for each in sources)])
                raise BadOptions(f"there is no stem {stem!r}; the model makes: {known}")
        self._index = {source: index for index, source in enumerate(sources)}
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()
        self.peak = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as files:
            self._files = {stem: files.enter_context(self.path(stem).open("wb")) for stem in self._sources}
            self._open = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def path(self, stem: str) -> Path:
        """Return the raw file of a wanted stem: interleaved float32, little-endian."""
        return self._folder / f"{stem}.f32"

    @property
    def gain(self) -> float:
        """Return the one gain for all stems, below 1 only if a sample would clip: so they still add up to the song."""
        return _PEAK / self.peak if self.peak > 1 else 1.0

    def write(self, block: Block, song: Signal) -> None:
        """Append `block`, the next one of `song`, to the files."""
        # Of all sources, wanted or not: so a stem that is asked for later gets the same gain.
        self.peak = max(self.peak, float(block.stems.abs().max()))
        for stem, source in self._sources.items():
            samples = block.stems[self._index[source]]
            if stem != source:
                samples = song.read(block.start, block.start + samples.shape[-1]) - samples
                self.peak = max(self.peak, float(samples.abs().max()))
            self._files[stem].write(samples.T.contiguous().numpy().astype("<f4").tobytes())


def encode(job: Encoding) -> None:
    """Make the file that `job` describes.

    Raises EncodeFailed, with nothing left at `job.out`, where ffmpeg fails.
    """
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "error", "-y"]
    command += ["-f", "f32le", "-ar", str(job.sample_rate_hz), "-ac", str(job.channels), "-i", f"file:{job.spool}"]
    command += ["-af", f"volume={job.gain!r}:precision=float"] if job.gain != 1 else []
    for key, value in job.tags.items():
        command += ["-metadata", f"{key}={value}".replace("\0", "")]
    command += [*_ARGUMENTS[job.format], f"file:{job.out}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        job.out.unlink(missing_ok=True)
        lines = done.stderr.decode(errors="replace").splitlines()
        raise EncodeFailed(f"ffmpeg could not write {job.out.name}: {lines[-1] if lines else done.returncode}")


def encode_all(jobs: Iterable[Encoding]) -> Iterator[Encoding]:
    """Run the encodings, one child process per core at a time; yield each when it is done, raise its error if not."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {pool.submit(encode, job): job for job in jobs}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
