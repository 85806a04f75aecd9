"""Waveforms to draw: the largest sample of each of at most 2000 equal shares of a song, for every stem.

Kept as JSON beside the stems (`<songhash>-peaks.json`), so that a page draws them without fetching any sound.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

POINTS = 2000
_FULL = 255  # what a sample of 1.0 is


class Peaks:
    """The peaks of a song of `length` samples, taken in block by block.

    Share i are the samples from i * length // points on, up to those of share i + 1.
    """

    def __init__(self, length: int) -> None:
        points = min(POINTS, length)
        self._starts = np.arange(points, dtype=np.int64) * length // max(points, 1)
        self._points: dict[str, NDArray[np.float32]] = {}

    def add(self, start: int, stems: Mapping[str, torch.Tensor]) -> None:
        """Take in the samples from `start` on, of shape (channels, samples), of each stem."""
        for stem, samples in stems.items():
            points = self._points.setdefault(stem, np.zeros(len(self._starts), np.float32))
            loudest = samples.abs().amax(0).numpy()
            first, last = self._shares(start, start + len(loudest))
            cuts = np.maximum(self._starts[first:last] - start, 0)
            np.maximum(points[first:last], np.maximum.reduceat(loudest, cuts), out=points[first:last])

    def excerpt(self, start: int, stop: int) -> dict[str, list[float]]:
        """Return the peaks of the shares that the samples [start, stop) touch, ready for JSON."""
        first, last = self._shares(start, stop)
        return {stem: points[first:last].tolist() for stem, points in self._points.items()}

    def merge(self, start: int, excerpt: Mapping[str, Sequence[float]]) -> None:
        """Take in what `excerpt` returned, of the samples from `start` on."""
        first, _ = self._shares(start, start + 1)
        for stem, found in excerpt.items():
            points = self._points.setdefault(stem, np.zeros(len(self._starts), np.float32))[first : first + len(found)]
            np.maximum(points, np.asarray(found, np.float32), out=points)

    def _shares(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first of the shares that the samples [start, stop) touch, and the one behind the last."""
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        return first, int(np.searchsorted(self._starts, stop, "left"))

    def shares(self, gain: float) -> dict[str, list[int]]:
        """Return the peaks of the stems at this gain, from 0 to 255; what is not quite silent is not 0."""
        return {stem: _rounded(points * gain) for stem, points in self._points.items()}


def to_json(length: int, sample_rate_hz: int, stems: Mapping[str, list[int]]) -> bytes:
    """Return the object's bytes. `length` in samples."""
    return json.dumps(
        {"length": length, "sample_rate_hz": sample_rate_hz, "stems": stems}, separators=(",", ":")
    ).encode()


def stems_of(text: str | bytes, length: int) -> dict[str, list[int]]:
    """Return the stems that an object of a song of `length` samples holds; none where it is not such an object."""
    try:
        data: Any = json.loads(text)
        return (
            {str(stem): [int(point) for point in points] for stem, points in data["stems"].items()}
            if (data["length"] == length)
            else {}
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _rounded(points: NDArray[np.float32]) -> list[int]:
    found: list[int] = np.clip(np.ceil(points.astype(np.float64) * _FULL - 1e-6), 0, _FULL).astype(int).tolist()
    return found
