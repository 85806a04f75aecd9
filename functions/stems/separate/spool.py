"""The stems on their way to the encoder: raw files, since the gain that keeps them from clipping is known at the end.

The encoder reads them while they grow: it goes by what it hopes for, that nothing clips.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

import numpy as np
import torch

from stems.errors import BadOptions, BadStems
from stems.options import COMPLEMENT
from stems.separate.engine import Block, Signal

_PEAK = 0.999


def gain_for(peak: float) -> float:
    """Return the one gain for stems of which this is the largest sample."""
    return _PEAK / peak if peak > 1 else 1.0


def decibels(gain: float) -> float:
    """Return a gain as records tell it."""
    return round(20 * math.log10(gain), 3)


class Spool:
    """Raw files of the wanted stems in `folder`, and the `peak` of all samples written. A context manager.

    `length`: the samples per channel that every file holds so far. A wanted stem is one of `sources`, or `no_<source>`:
    the song minus that source. Raises BadOptions for any other.
    """

    def __init__(self, folder: Path, sources: Sequence[str], wanted: Iterable[str]) -> None:
        self._folder, self._sources, self._wanted = folder, tuple(sources), tuple(wanted)
        known = [*sources, *(COMPLEMENT + each for each in sources)]
        for stem in self._wanted:
            if stem not in known:
                raise BadOptions(f"there is no stem {stem!r}; the model makes: {', '.join(known)}")
        self._index = {stem: index % len(self._sources) for index, stem in enumerate(known)}
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()
        self.peak = 0.0
        self.length = 0

    def __enter__(self) -> Self:
        with ExitStack() as files:
            for stem in self._wanted:
                self._files[stem] = files.enter_context(self.path(stem).open("wb"))
            self._open = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def path(self, stem: str) -> Path:
        """Return the raw file of a wanted stem: interleaved float32, little-endian."""
        return self._folder / f"{stem}.f32"

    @property
    def clips(self) -> bool:
        """Tell whether a sample written so far would clip."""
        return self.peak > 1

    @property
    def gain(self) -> float:
        """Return the one gain for all stems, below 1 only if a sample would clip: so they still add up to the song."""
        return gain_for(self.peak)

    def write(self, block: Block, song: Signal) -> Mapping[str, torch.Tensor]:
        """Append `block`, the next one of `song`, to the files; return what was written, stem by stem.

        Raises BadStems where a sample is no finite number: no gain makes a stem of that.
        """
        self._note(block.stems, block.start)
        written = {}
        for stem, file in self._files.items():
            samples = block.stems[self._index[stem]]
            if stem not in self._sources:
                samples = song.read(block.start, block.start + samples.shape[-1]) - samples
                self._note(samples, block.start)
            file.write(np.ascontiguousarray(samples.numpy().T, "<f4").data)
            file.flush()
            written[stem] = samples
        self.length = block.start + block.stems.shape[-1]
        return written

    def _note(self, samples: torch.Tensor, start: int) -> None:
        low, high = map(float, torch.aminmax(samples))  # a NaN among them makes both NaN
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadStems(
                f"the model makes no sound of this song: from sample {start} on, its stems reach from {low} to {high}"
            )
        self.peak = max(self.peak, -low, high)
