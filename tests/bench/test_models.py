"""How fast the bundled model is beside one of htdemucs' size: both in one run, one after the other."""

import statistics
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from demucs.htdemucs import HTDemucs

from stems.separate.engine import separate
from stems.separate.model import DEMO, Model, Part, load
from tests.bench.machine import machine
from tests.data.training.evaluate import Mixture

SECONDS, ROUNDS = 30, 3


def htdemucs() -> Model:
    """Return a network with the arguments of htdemucs and random weights: what it computes takes as long."""
    torch.manual_seed(1)
    sources = ["drums", "bass", "other", "vocals"]
    network = HTDemucs(sources, segment=Fraction(39, 5), bottom_channels=512, t_layers=5, t_heads=8, dconv_mode=3)
    part = Part(network.eval().requires_grad_(False), (1.0,) * 4, int(44100 * 7.8))
    return Model("htdemucs's size", tuple(sources), 44100, 2, (part,), "")


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_the_bundled_model_beside_one_of_htdemucs_size() -> None:
    song = Mixture(0.1 * torch.randn(2, SECONDS * 44100))
    models = [htdemucs(), load(DEMO, Path())]
    taken_s: dict[str, list[float]] = {model.name: [] for model in models}
    for model in models * ROUNDS:
        started = time.monotonic()
        for _ in separate(model, song):
            pass
        taken_s[model.name].append(time.monotonic() - started)
    print(f"\n{machine()}\n{SECONDS} s of sound, {ROUNDS} rounds in turn; seconds a second of sound")
    for name, values in taken_s.items():
        print(f"  {name:16} median {statistics.median(values) / SECONDS:.3f}  least {min(values) / SECONDS:.3f}")
    slow, fast = (statistics.median(values) for values in taken_s.values())
    print(f"  ratio            {slow / fast:.1f}")
