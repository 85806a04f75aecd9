"""Songs on disk, and the segments of them that make a batch.

A song is a folder with one 16-bit stereo WAV file at 44.1 kHz per source, all of one length. What a batch holds is a
function of the songs, the seed and the step alone: a run that was killed goes on with the very same batches.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from tests.data.training import augment

SOURCES = ("drums", "bass", "other", "vocals")
SAMPLE_RATE_HZ = 44100
CHANNELS = 2
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Song:
    """A song on disk; `length` is in samples per channel."""

    folder: Path
    length: int

    @property
    def name(self) -> str:
        """Return what the song is called: the name of its folder."""
        return self.folder.name

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return the samples [start, stop) of all stems as float32 of shape (sources, channels, stop - start)."""
        files = (self.folder / f"{source}.wav" for source in SOURCES)
        return np.stack([soundfile.read(file, start=start, stop=stop, dtype="float32")[0].T for file in files])


@dataclass(frozen=True, slots=True)
class Shape:
    """What a batch looks like: `size` segments of `length` samples."""

    size: int
    length: int


def scan(folder: Path, shortest: int = 1) -> list[Song]:
    """Return the songs in `folder` of at least `shortest` samples, by name.

    Folders without all four stems, or with stems that differ in length, are passed over: they are being written.
    Raises ValueError where a stem is not 44.1 kHz stereo.
    """
    songs = (_song(each) for each in sorted(folder.iterdir()) if each.is_dir() and each.name[0] != ".")
    return [song for song in songs if song and song.length >= shortest]


def _song(folder: Path) -> Song | None:
    try:
        infos = [soundfile.info(folder / f"{source}.wav") for source in SOURCES]
    except (OSError, soundfile.LibsndfileError):
        return None
    if any((info.samplerate, info.channels) != (SAMPLE_RATE_HZ, CHANNELS) for info in infos):
        raise ValueError(f"{folder} is not {SAMPLE_RATE_HZ} Hz stereo")
    lengths = {int(info.frames) for info in infos}
    return Song(folder, lengths.pop()) if len(lengths) == 1 else None


def batches(songs: Sequence[Song], shape: Shape, seed: int, steps: range) -> Iterator[torch.Tensor]:
    """Yield the batch of every step, float32 of shape (batch, sources, channels, samples), read ahead by a thread.

    Raises ValueError where there is no song.
    """
    if not songs:
        raise ValueError("there are no songs to train on")
    with ThreadPoolExecutor(1) as reader:
        ahead: list[Future[torch.Tensor]] = []
        for step in steps:
            ahead.append(reader.submit(batch, songs, shape, seed, step))
            if len(ahead) > _AHEAD:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def batch(songs: Sequence[Song], shape: Shape, seed: int, step: int) -> torch.Tensor:
    """Return the batch of `step`: random segments of different songs, coloured and varied in speed.

    All stems of a segment get the same speed, so that they stay in tune and in time, and each its own colour. A song
    must have `augment.longest(shape.length)` samples.
    """
    rng = np.random.default_rng([seed, step])
    chosen = rng.choice(len(songs), shape.size, replace=len(songs) < shape.size)
    return torch.from_numpy(np.stack([_segment(songs[index], shape.length, rng) for index in chosen]))


def _segment(song: Song, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    taken = augment.taken(length, augment.speed(rng))
    start = int(rng.integers(song.length - taken + 1))
    return np.stack([augment.colour(stem, length, rng) for stem in song.read(start, start + taken)])


def excerpts(songs: Sequence[Song], length: int, each: int) -> Iterator[torch.Tensor]:
    """Yield `each` evenly spaced segments of every song: float32 of shape (sources, channels, length)."""
    for song in songs:
        for start in np.linspace(0, song.length - length, each + 2, dtype=int)[1:-1]:
            yield torch.from_numpy(song.read(int(start), int(start) + length))
