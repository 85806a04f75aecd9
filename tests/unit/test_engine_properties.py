"""What holds for every song and every way to cut it, tried on many of them."""

import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from demucs.htdemucs import HTDemucs

from stems.config import EXACT, FAST
from stems.separate import engine
from stems.separate.engine import plan, separate
from stems.separate.hybrid import Hybrid, Types
from stems.separate.model import Model
from tests.audio import snr_db
from tests.unit.test_engine import FOUR, RATE_HZ, SEGMENT, STRIDE, Memory, htdemucs, joined, model_of, noise


class Shares(torch.nn.Module):
    """A network that divides the mix between four sources, each part another way: their sum is the mix."""

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        first = mix * torch.linspace(0.1, 0.9, mix.shape[-1])  # depends on the place within the segment
        second = (mix - first).clamp(-0.1, 0.1)
        third = (mix - first - second) / 2
        return torch.stack([first, second, third, mix - first - second - third], 1)


def centred(length: int, seed: int) -> Memory:
    """Return a song without a mean: demucs gives a song's mean to each of its stems."""
    wav = noise(length, seed).wav
    return Memory(wav - wav.mean())


def hybrid(precision: str) -> Model:
    """Return a network as it is computed for the service: in blocks, by our kernels where there are some."""
    torch.manual_seed(7)
    small = {"channels": 8, "t_layers": 2, "t_heads": 2, "dconv_mode": 3, "samplerate": RATE_HZ, "segment": Fraction(1)}
    types = Types(torch.float32, torch.float32) if precision == EXACT else Types(torch.bfloat16, torch.bfloat16)
    return replace(model_of(Hybrid(HTDemucs(FOUR, **small).eval(), types)), precision=precision)


LENGTHS = [1, 2, 100, STRIDE - 1, STRIDE, STRIDE + 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * STRIDE + 17]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_stems_of_a_model_that_reconstructs_add_up_to_the_song(length: int) -> None:
    song = centred(length, seed=length)
    stems = joined(list(separate(model_of(Shares()), song)))
    assert stems.shape == (4, 2, length)
    torch.testing.assert_close(stems.sum(0), song.wav, atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("model", [model_of(Shares()), hybrid(EXACT), hybrid(FAST)], ids=["shares", EXACT, FAST])
def test_any_run_of_segments_is_that_span_of_the_whole(
    model: Model, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    song = noise(chance.randint(1, 6 * STRIDE), seed)
    monkeypatch.setattr(engine, "_CORES", chance.randint(1, 4))
    whole = joined(list(separate(model, song)))
    segments = plan(model, song.length).segments
    first = chance.randrange(segments)
    last = chance.randint(first + 1, segments)
    run = list(separate(model, song, first=first, last=last))
    assert [block.start for block in run] == [index * STRIDE for index in range(first, last)]
    assert torch.equal(joined(run), whole[..., first * STRIDE : last * STRIDE])


@pytest.mark.parametrize("length", [1, 2, 7, 1000, STRIDE])
def test_a_song_shorter_than_a_segment_is_one_block(length: int) -> None:
    song = noise(length)
    blocks = list(separate(model_of(htdemucs()), song))
    assert [(block.start, block.stems.shape) for block in blocks] == [(0, (4, 2, length))]
    assert blocks[0].stems.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.25, -1.0])
@pytest.mark.parametrize("length", [1, 2 * STRIDE])
def test_a_song_without_deviation_is_the_same_level_in_every_stem(level: float, length: int) -> None:
    song = Memory(torch.full((2, length), level))
    assert song.deviation == 0
    stems = joined(list(separate(model_of(Shares()), song)))
    torch.testing.assert_close(stems, torch.full((4, 2, length), level), atol=1e-6, rtol=0)


def test_a_song_twice_as_loud_has_stems_twice_as_loud() -> None:
    song = noise(2 * STRIDE + 5)
    model = model_of(htdemucs())
    once, twice = (joined(list(separate(model, each))) for each in (song, Memory(2 * song.wav)))
    assert snr_db(2 * once, twice) > 90
