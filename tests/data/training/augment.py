"""Augmentation: what is done to the stems before they are mixed, so that unseen instruments come as no surprise.

Before a batch is put together each stem goes through one Fourier transform, which filters it and changes its speed;
demucs' own augmentations and two more then work on whole batches. Shift has nothing to add to random segments, and
soundstretch (demucs' RepitchedWrapper) takes longer for a stem than a training step for its batch: varispeed moves
pitch and tempo together instead.
"""

import numpy as np
import scipy.fft
import torch
from demucs.augment import FlipChannels, FlipSign, Remix, Scale
from numpy.typing import NDArray
from torch import nn

_SPEED_CHANCE = 0.5
_SPEED_SPREAD = 0.12
_COLOUR_CHANCE = 0.6
_TILT_DB = 5.0
_RIPPLE_DB = 3.0
_DULL_CHANCE = 0.15
_DULL_DB_PER_OCTAVE = -24.0
_OCTAVES = 10
_LOWEST = 2.0 ** -(_OCTAVES + 1)  # of the sample rate: 21.5 Hz, ten octaves below the highest frequency
# The Fourier transform joins both ends of a segment: what leaks from one to the other is cut off.
_MARGIN = 1024


def speed(rng: np.random.Generator) -> float:
    """Return the factor by which a segment is played faster: often 1, else within 12 %."""
    return float(1 + rng.uniform(-_SPEED_SPREAD, _SPEED_SPREAD)) if rng.random() < _SPEED_CHANCE else 1.0


def taken(length: int, factor: float) -> int:
    """Return the samples that `colour` needs for a segment of `length` samples that is played `factor` faster."""
    return length if factor == 1 else int(scipy.fft.next_fast_len(round(_padded(length) * factor), real=True))


def longest(length: int) -> int:
    """Return the most samples that `taken` asks for."""
    return taken(length, 1 + _SPEED_SPREAD)


def colour(stem: NDArray[np.float32], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `stem`, of shape (channels, samples), filtered at random and resampled to `length` samples.

    As many samples as `length` mean that the speed stays as it is.
    """
    samples = stem.shape[-1]
    coloured = rng.random() < _COLOUR_CHANCE
    gains_db = curve(rng)
    if not stem.any():
        return np.zeros((len(stem), length), np.float32)
    if samples == length and not coloured:
        return stem
    spectrum = scipy.fft.rfft(stem)
    if coloured:
        octaves = np.log2(np.maximum(np.arange(spectrum.shape[-1]) / samples, _LOWEST)) - np.log2(_LOWEST)
        spectrum *= (10 ** (np.interp(octaves, np.arange(_OCTAVES + 1), gains_db) / 20)).astype(np.float32)
    wanted = length if samples == length else _padded(length)
    # The inverse transform cuts or extends the spectrum to the new length: that is the resampling.
    sound = scipy.fft.irfft(spectrum, wanted) * np.float32(wanted / samples)
    start = (wanted - length) // 2
    return np.ascontiguousarray(sound[:, start : start + length], np.float32)


def _padded(length: int) -> int:
    return int(scipy.fft.next_fast_len(length + 2 * _MARGIN, real=True))


def curve(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the gain in dB of a random filter at every octave from 21.5 Hz on: a tilt, ripples, now and then dull."""
    octaves = np.arange(_OCTAVES + 1)
    gains_db = rng.uniform(-_TILT_DB, _TILT_DB) * (octaves / _OCTAVES - 0.5) * 2
    gains_db = gains_db + rng.normal(0, _RIPPLE_DB, octaves.shape)
    if rng.random() < _DULL_CHANCE:
        gains_db = gains_db + _DULL_DB_PER_OCTAVE * np.maximum(octaves - rng.uniform(7.5, 9.5), 0)
    return np.asarray(gains_db - gains_db[2:9].mean())


class Stereo(nn.Module):
    """Change the width and the balance of each stem at random; a stem may become mono."""

    def __init__(self, proba: float = 0.5, balance_db: float = 3.0) -> None:
        super().__init__()
        self.proba = proba
        self.balance_db = balance_db

    def forward(self, stems: torch.Tensor) -> torch.Tensor:
        """Return stems of the same shape (batch, sources, 2, samples)."""
        if not self.training:
            return stems
        drawn = (*stems.shape[:2], 1, 1)
        changed = torch.rand(drawn, device=stems.device) < self.proba
        width = torch.where(changed, 1.4 * torch.rand(drawn, device=stems.device), 1.0)
        balance_db = torch.where(changed, self.balance_db * (2 * torch.rand(drawn, device=stems.device) - 1), 0.0)
        middle = stems.mean(2, keepdim=True)
        gains = 10 ** (torch.cat([balance_db, -balance_db], 2) / 40)
        return (middle + width * (stems - middle)) * gains


class Drop(nn.Module):
    """Silence a stem now and then: a song need not have all of them."""

    def __init__(self, proba: float = 0.08) -> None:
        super().__init__()
        self.proba = proba

    def forward(self, stems: torch.Tensor) -> torch.Tensor:
        """Return stems of the same shape (batch, sources, channels, samples)."""
        if not self.training:
            return stems
        return stems * (torch.rand((*stems.shape[:2], 1, 1), device=stems.device) >= self.proba)


def chain(remix: float = 0.5) -> nn.Sequential:
    """Return the augmentations of a batch; `remix` is the chance that its songs swap their stems.

    The other half of the batches keep what belongs together: stems in one key and in one tempo mask each other most.
    """
    scale, exchange = Scale(), Remix(remix, group_size=0)  # type: ignore[no-untyped-call]
    return nn.Sequential(FlipChannels(), FlipSign(), Stereo(), scale, Drop(), exchange)
