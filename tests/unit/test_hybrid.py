"""Hybrid Transformer Demucs in blocks against demucs itself, on the same weights."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from stems.separate import allowance, engine, kernels
from stems.separate.engine import separate
from stems.separate.hybrid import Hybrid, Types
from stems.separate.model import Model, Part
from tests.audio import snr_db
from tests.data.training.evaluate import Mixture

FOUR = ["drums", "bass", "other", "vocals"]
SIX = [*FOUR, "guitar", "piano"]
SMALL: dict[str, Any] = {"channels": 8, "t_heads": 2, "t_layers": 3, "samplerate": 8000, "segment": Fraction(1)}
EXACT = Types(torch.float32, torch.float32)


@pytest.fixture(autouse=True, params=["kernels", "torch"])
def computed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test by our kernels, where there are some for this machine, and by torch alone."""
    with nullcontext() if request.param == "kernels" else kernels.torch_alone():
        yield


def network(sources: list[str] = FOUR, **arguments: Any) -> Any:
    """Make a network in which every branch counts, as training would: its scales begin near 0."""
    torch.manual_seed(5)
    made = HTDemucs(sources, **{**SMALL, **arguments}).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith(".scale"):
            torch.nn.init.uniform_(parameter, 0.05, 0.5)
        elif "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return made


def stems_db(types: Types, made: Any, length: int = 8000) -> list[float]:
    """Return how far our difference from demucs lies below each stem."""
    mix = 0.1 * torch.randn(1, made.audio_channels, length, generator=torch.Generator().manual_seed(2)) + 0.02
    with torch.inference_mode():
        wanted, found = made(mix)[0], Hybrid(made, types)(mix)[0]
    assert wanted.shape == found.shape
    return [snr_db(a, b) for a, b in zip(wanted, found, strict=True)]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"dconv_mode": 3, "bottom_channels": 64}, id="htdemucs"),
        pytest.param({"dconv_mode": 1, "sources": SIX}, id="six stems"),
        pytest.param({"dconv_mode": 0, "t_layers": 0}, id="convolutions alone"),
        pytest.param({"t_cross_first": True, "t_norm_in": False, "t_norm_out": False}, id="crossing first"),
        pytest.param({"t_norm_in": False, "t_norm_in_group": 1, "t_layer_scale": False}, id="groups, no scales"),
        pytest.param({"context": 0, "freq_emb": 0, "dconv_mode": 3}, id="no context"),
        pytest.param({"depth": 3, "audio_channels": 1}, id="mono, three levels"),
    ],
)
def test_the_samples_of_demucs(made: dict[str, Any]) -> None:
    net = network(**made)
    assert Hybrid.supports(net)
    assert min(stems_db(EXACT, net)) > 100


@pytest.mark.parametrize("length", [8000, 8001, 9999, 12346])
def test_any_length_where_the_network_takes_it(length: int) -> None:
    net = network(dconv_mode=3, use_train_segment=False)
    assert Hybrid(net, EXACT).valid_length(length) == length
    assert min(stems_db(EXACT, net, length)) > 100


def test_less_exact_as_asked() -> None:
    net = network(dconv_mode=3, bottom_channels=64)
    close = min(stems_db(Types(torch.bfloat16, torch.float32), net))
    fast = min(stems_db(Types(torch.bfloat16, torch.bfloat16), net))
    assert 100 > close >= 60
    assert close > fast >= 35


@pytest.mark.parametrize(
    "made",
    [
        HDemucs(FOUR, channels=8, segment=1),
        HTDemucs(FOUR, **SMALL, cac=False),
        HTDemucs(FOUR, **SMALL, rewrite=False),
        HTDemucs(FOUR, **SMALL, norm_starts=2),
        HTDemucs(FOUR, **SMALL, t_emb="scaled"),
        HTDemucs(FOUR, **SMALL, t_group_norm=1),
        HTDemucs(FOUR, **SMALL, multi_freqs=[0.5]),
        torch.nn.Identity(),
    ],
)
def test_other_networks_are_told(made: Any) -> None:
    assert not Hybrid.supports(made)


@pytest.mark.parametrize("cores", [2, 5])
def test_segments_at_once_are_those_of_one_after_the_other(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CORES", cores)
    monkeypatch.setattr(allowance, "memory_mib", lambda: 100_000)
    net = network(dconv_mode=3)
    part = Part(net, (1.0,) * 4, 8000)
    theirs = Model("theirs", tuple(FOUR), 8000, 2, (part,), "")
    ours = replace(theirs, parts=(replace(part, network=Hybrid(net, EXACT)),))
    assert (theirs.at_once, ours.at_once) == (1, 8 if kernels.usable(torch.float32) else 2)
    song = Mixture(0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(3)))
    whole = list(separate(ours, song))
    assert len(whole) == 7
    for block, wanted in zip(whole, separate(theirs, song), strict=True):
        assert block.start == wanted.start
        torch.testing.assert_close(block.stems, wanted.stems, rtol=0, atol=1e-5)
    for first, last in [(0, 1), (2, 5), (6, 7)]:
        run = list(separate(ours, song, first=first, last=last))
        assert all(torch.equal(a.stems, b.stems) for a, b in zip(run, whole[first:last], strict=True))
