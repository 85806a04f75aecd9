"""The engine against demucs itself, on the same weights, and what streaming must not change."""

import itertools
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch
from demucs.api import Separator
from demucs.apply import BagOfModels
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from stems.errors import ModelUnavailable
from stems.separate.engine import Block, plan, separate
from stems.separate.model import Model, Part
from tests.audio import snr_db

RATE_HZ = 8000
SEGMENT = RATE_HZ
STRIDE = 6000
FOUR = ["drums", "bass", "other", "vocals"]
SIX = [*FOUR, "guitar", "piano"]


@dataclass(frozen=True)
class Memory:
    """A song held as a tensor (channels, samples)."""

    wav: torch.Tensor

    @property
    def length(self) -> int:
        return self.wav.shape[-1]

    @property
    def mean(self) -> float:
        return float(self.wav.mean(0, dtype=torch.float64).mean())

    @property
    def deviation(self) -> float:
        return float(self.wav.mean(0, dtype=torch.float64).std()) if self.length > 1 else 0.0

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.wav[:, start:stop]


class Unit(torch.nn.Module):
    """A network that gives the mix back as every source, to measure the engine alone."""

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        return mix[:, None].expand(-1, 4, -1, -1)


def noise(length: int, seed: int = 0) -> Memory:
    generator = torch.Generator().manual_seed(seed)
    return Memory(0.2 * torch.randn(2, length, generator=generator) + 0.05)


def htdemucs(sources: list[str] = FOUR, seed: int = 1, **more: Any) -> Any:
    torch.manual_seed(seed)
    small = {"channels": 8, "t_layers": 1, "t_heads": 2, "t_hidden_scale": 1.0, "dconv_depth": 1}
    return HTDemucs(sources, samplerate=RATE_HZ, segment=Fraction(1), **small, **more).eval()


def hdemucs(seed: int = 1) -> Any:
    torch.manual_seed(seed)
    return HDemucs(FOUR, channels=8, samplerate=RATE_HZ, segment=1, dconv_depth=1).eval()


def model_of(*networks: Any, weights: list[list[float]] | None = None) -> Model:
    sources = tuple(getattr(networks[0], "sources", FOUR))
    table = weights or [[1.0] * len(sources) for _ in networks]
    parts = tuple(Part(each, tuple(row), SEGMENT) for each, row in zip(networks, table, strict=True))
    return Model("test", sources, RATE_HZ, 2, parts, "")


def joined(blocks: list[Block]) -> torch.Tensor:
    return torch.cat([block.stems for block in blocks], -1)


def by_demucs(network: Any, song: Memory) -> torch.Tensor:
    """Separate with `demucs.api.Separator`, which can otherwise only load its network by name."""
    separator = Separator.__new__(Separator)
    separator._model, separator._samplerate, separator._audio_channels = network, RATE_HZ, 2
    separator.update_parameter(
        device="cpu", shifts=0, overlap=0.25, split=True, segment=None, jobs=0, progress=False, callback=None,
        callback_arg=None,
    )  # fmt: skip
    return torch.stack(list(separator.separate_tensor(song.wav)[1].values()))


@pytest.mark.parametrize("length", [1500, SEGMENT, 2 * STRIDE, 2 * STRIDE + SEGMENT - 1, 20011])
@pytest.mark.parametrize("network", [htdemucs(), hdemucs()], ids=["htdemucs", "hdemucs"])
def test_stems_are_those_of_demucs(network: Any, length: int) -> None:
    song = noise(length)
    stems = joined(list(separate(model_of(network), song)))
    assert stems.shape == (4, 2, length)
    assert snr_db(by_demucs(network, song), stems) >= 100


def test_stems_are_those_of_demucs_for_any_length_a_network_takes() -> None:
    network, song = htdemucs(use_train_segment=False), noise(15013)
    assert snr_db(by_demucs(network, song), joined(list(separate(model_of(network), song)))) >= 100


def test_a_six_source_model_gives_six_stems() -> None:
    network, song = htdemucs(SIX), noise(15013)
    stems = joined(list(separate(model_of(network), song)))
    assert stems.shape == (6, 2, 15013)
    assert snr_db(by_demucs(network, song), stems) >= 100


@pytest.mark.parametrize(
    "weights",
    [torch.eye(4).tolist(), [[1.0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 1, 1]]],
    ids=["one-hot", "mixed"],
)
def test_a_bag_is_averaged_as_demucs_does(weights: list[list[float]]) -> None:
    networks, song = [htdemucs(seed=seed) for seed in range(4)], noise(15013)
    stems = joined(list(separate(model_of(*networks, weights=weights), song)))
    assert snr_db(by_demucs(BagOfModels(list(networks), weights), song), stems) >= 100


def test_a_part_without_any_weight_is_not_run() -> None:
    class Never(torch.nn.Module):
        def forward(self, mix: torch.Tensor) -> torch.Tensor:
            raise AssertionError("ran")

    song = noise(9000)
    stems = joined(list(separate(model_of(Unit(), Never(), weights=[[1.0] * 4, [0.0] * 4]), song)))
    assert snr_db(song.wav.expand(4, -1, -1), stems) >= 100


def test_a_bag_of_unequal_segments_is_refused() -> None:
    parts = (Part(Unit(), (1.0,) * 4, SEGMENT), Part(Unit(), (1.0,) * 4, 2 * SEGMENT))
    with pytest.raises(ModelUnavailable, match="one segment length"):
        Model("test", tuple(FOUR), RATE_HZ, 2, parts, "")


def test_any_division_of_a_song_gives_the_same_samples() -> None:
    model, song = model_of(htdemucs()), noise(4 * STRIDE + 123)
    whole = list(separate(model, song))
    assert len(whole) == plan(model, song.length).segments == 5
    assert [block.start for block in whole] == [k * STRIDE for k in range(5)]
    for cuts in ([0, 1, 2, 3, 4, 5], [0, 2, 5], [0, 4, 5]):
        runs = [separate(model, song, first=a, last=b) for a, b in itertools.pairwise(cuts)]
        blocks = [block for run in runs for block in run]
        assert [block.start for block in blocks] == [block.start for block in whole]
        assert torch.equal(joined(blocks), joined(whole))


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 2), (0, 4), (3, None)])
def test_segments_outside_the_song_are_refused(first: int, last: int | None) -> None:
    with pytest.raises(ValueError, match="segments"):
        separate(model_of(Unit()), noise(3 * STRIDE), first=first, last=last)


@pytest.mark.parametrize("length", [1, 2, 3 * STRIDE])
def test_digital_silence_gives_finite_stems(length: int) -> None:
    song = Memory(torch.zeros(2, length))
    stems = joined(list(separate(model_of(htdemucs()), song)))
    assert stems.shape[-1] == length
    assert stems.isfinite().all()
    assert stems.abs().max() < 1e-6


def test_blocks_may_be_changed_in_place() -> None:
    for block in separate(model_of(htdemucs()), noise(100)):
        block.stems.mul_(0.5)


@dataclass(frozen=True)
class Endless:
    """A song of silence that takes no memory."""

    length: int
    mean: float = 0.0
    deviation: float = 1.0

    def read(self, start: int, stop: int) -> torch.Tensor:
        return torch.zeros(2, stop - start)


def peak_memory(duration_s: int) -> int:
    """Separate `duration_s` seconds and return the most memory that this process ever held."""
    for _ in separate(model_of(Unit()), Endless(duration_s * RATE_HZ)):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_memory_does_not_grow_with_the_song() -> None:
    # In a process of its own: what other tests held at their peak would hide the growth. The stems of 10 minutes
    # are 154 MB, of some 500 MB that torch itself takes.
    code = "from tests.unit.test_engine import peak_memory as p; print(p(60), p(600))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, env=environment)
    one_minute, ten_minutes = map(int, done.stdout.split())
    assert ten_minutes < 1.05 * one_minute
