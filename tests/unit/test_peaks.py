"""Waveforms: each point is the largest sample of its share, however the blocks fall."""

import itertools
import json

import numpy as np
import pytest
import torch

from stems.separate.peaks import POINTS, Peaks, stems_of, to_json


def shares_of(samples: torch.Tensor, points: int) -> list[int]:
    """Return what the points should be, share by share."""
    length = samples.shape[-1]
    cuts = [index * length // points for index in range(points + 1)]
    largest = np.abs(samples.numpy()).max(0)
    loudest = [float(largest[start:stop].max()) for start, stop in itertools.pairwise(cuts)]
    return [int(min(255, np.ceil(255 * each - 1e-6))) for each in loudest]


@pytest.mark.parametrize("length", [1, 2, 1999, 2000, 2001, 12_345, 100_000])
@pytest.mark.parametrize("block", [1_000_000, 1777])
def test_a_point_is_the_largest_sample_of_its_share(length: int, block: int) -> None:
    samples = torch.rand(2, length, generator=torch.Generator().manual_seed(length)) * 2 - 1
    peaks = Peaks(length)
    for start in range(0, length, block):
        part = samples[:, start : start + block]
        peaks.add(start, {"vocals": part, "bass": -part / 4})
    found = peaks.shares(1.0)
    assert found["vocals"] == shares_of(samples, min(POINTS, length))
    assert found["bass"] == shares_of(samples / 4, min(POINTS, length))


def test_peaks_are_those_of_the_files_and_fit_a_byte() -> None:
    peaks = Peaks(4)
    peaks.add(0, {"vocals": torch.tensor([[0.0, 2.0, 1e-4, -0.5]])})
    assert peaks.shares(1.0) == {"vocals": [0, 255, 1, 128]}
    assert peaks.shares(0.5) == {"vocals": [0, 255, 1, 64]}


def test_what_is_written_is_read() -> None:
    stems = {"vocals": [0, 255], "no_vocals": [3, 4]}
    text = to_json(99, 44100, stems)
    assert json.loads(text) == {"length": 99, "sample_rate_hz": 44100, "stems": stems}
    assert stems_of(text, 99) == stems


@pytest.mark.parametrize("text", [b"", b"[]", b'{"length": 99}', b'{"length": 98, "stems": {"a": [1]}}'])
def test_what_is_damaged_or_of_another_length_holds_no_stems(text: bytes) -> None:
    assert stems_of(text, 99) == {}
