"""Separation without learning, from textbooks: what a trained network must beat.

Median filters tell steady from percussive sound (Fitzgerald, DAFx 2010), the low end is bass, what is alike in both
channels between 150 Hz and 8 kHz is the voice. Each stem has a few variants, of which a comparison takes the best.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter

Sound = NDArray[np.float32]

_BINS = 4096
_HOP = 1024
_STEADY_FRAMES = 17
_PERCUSSIVE_BINS = 31
_LEAST = 1e-8
# An estimate that is unsure does best to be small: half the sound is right more often than all of it.
_GAINS = (1.0, 0.5)


def estimates(mixture: Sound, sample_rate_hz: int) -> Iterator[tuple[str, str, Sound]]:
    """Yield (source, variant, estimate) for the mixture, each sound float32 of shape (channels, samples)."""
    window = torch.hann_window(_BINS)
    spectrum = torch.stft(torch.from_numpy(mixture), _BINS, _HOP, window=window, return_complex=True)
    for source, variant, mask in _masks(spectrum.numpy(), sample_rate_hz):
        masked = spectrum * torch.from_numpy(mask.astype(np.float32))
        sound = torch.istft(masked, _BINS, _HOP, window=window, length=mixture.shape[-1]).numpy()
        for gain in _GAINS:
            yield source, variant if gain == 1 else f"{variant}, {gain:g} x", np.asarray(gain * sound, np.float32)


def _masks(spectrum: NDArray[np.complex64], sample_rate_hz: int) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Yield (source, variant, mask) with masks from 0 to 1 of shape (bins, frames)."""
    size = np.abs(spectrum).mean(0)
    steady = median_filter(size, (1, _STEADY_FRAMES))
    struck = median_filter(size, (_PERCUSSIVE_BINS, 1))
    frequency_hz = (np.arange(len(size)) * sample_rate_hz / _BINS)[:, None]
    centre = _centre(spectrum)
    voiced = (frequency_hz > 150) & (frequency_hz < 8000)
    percussive = struck**2 / (steady**2 + struck**2 + _LEAST)
    harmonic = 1 - percussive
    yield "drums", "percussive", percussive
    yield "drums", "percussive, squared", percussive**2
    for top_hz in (150, 200, 250):
        yield "bass", f"below {top_hz} Hz", np.broadcast_to(frequency_hz < top_hz, size.shape).astype(np.float32)
    yield "bass", "harmonic below 250 Hz", harmonic * (frequency_hz < 250)
    yield "other", "harmonic above 200 Hz", harmonic * (frequency_hz >= 200)
    yield "other", "harmonic sides above 200 Hz", harmonic * (1 - centre * voiced) * (frequency_hz >= 200)
    yield "vocals", "centre", centre * voiced
    yield "vocals", "harmonic centre", harmonic * centre * voiced


def _centre(spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Return how alike both channels are in every bin: 1 where they are the same, 0 where one of them is silent."""
    left, right = spectrum
    alike = 2 * (left * right.conj()).real / (np.abs(left) ** 2 + np.abs(right) ** 2 + _LEAST)
    return np.asarray(np.clip(alike, 0, 1) ** 4, np.float32)
