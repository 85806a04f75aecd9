"""What networks compute on: the choice, several segments at a time, and what happens where memory runs out.

No card is needed: one is played by the processor, which holds so many segments at a time and no more.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stems.config import CLOSE, EXACT, FAST
from stems.separate import device, kernels
from stems.separate.device import Device, choose
from stems.separate.engine import separate
from stems.separate.model import Model, load
from tests.audio import snr_db
from tests.unit.test_engine import SEGMENT, STRIDE, hdemucs, htdemucs, joined, model_of, noise


class Card(Device):
    """A card with memory for `room` segments; `taken` tells how many it was given each time."""

    def __init__(self, batch: int, room: int) -> None:
        super().__init__("meta", batch)
        self.room, self.taken = room, list[int]()

    def stems(self, network: Any, mix: torch.Tensor, precision: str) -> torch.Tensor:
        self.taken.append(len(mix))
        if self.is_card and len(mix) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        with torch.inference_mode():
            made: torch.Tensor = network(mix)
        return made


def on(card: Device, model: Model) -> Model:
    return replace(model, device=card)


@pytest.mark.parametrize("network", [htdemucs(), hdemucs(), htdemucs(use_train_segment=False)])
@pytest.mark.parametrize("length", [1500, 4 * STRIDE + SEGMENT, 6 * STRIDE + 17])
def test_several_segments_at_a_time_are_those_of_one_after_the_other(network: Any, length: int) -> None:
    model, song = model_of(network), noise(length)
    wanted = list(separate(model, song))
    found = list(separate(on(Card(3, room=3), model), song))
    assert [block.start for block in found] == [block.start for block in wanted]
    torch.testing.assert_close(joined(found), joined(wanted), atol=1e-6, rtol=0)


def test_the_last_ones_are_fewer_and_the_shorter_ones_apart() -> None:
    card = Card(3, room=3)
    # Five segments of full length; then two that end with the song.
    list(separate(on(card, model_of(hdemucs())), noise(6 * STRIDE + 1000)))
    assert card.taken == [3, 2, 1, 1]


def test_a_run_of_segments_is_taken_several_at_a_time_too() -> None:
    model, song = model_of(htdemucs()), noise(9 * STRIDE)
    whole = joined(list(separate(model, song)))
    run = joined(list(separate(on(Card(4, room=4), model), song, first=2, last=8)))
    torch.testing.assert_close(run, whole[..., 2 * STRIDE : 8 * STRIDE], atol=1e-6, rtol=0)


def test_where_memory_runs_out_fewer_are_taken_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    card, model, song = Card(8, room=3), model_of(htdemucs()), noise(20 * STRIDE)
    found = joined(list(separate(on(card, model), song)))
    torch.testing.assert_close(found, joined(list(separate(model, song))), atol=1e-6, rtol=0)
    assert card.batch == 2
    assert card.taken == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "meta: no memory for 8 segments at a time; now 4",
        "meta: no memory for 4 segments at a time; now 2",
    ]


def test_without_memory_for_one_segment_the_processor_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    card, model, song = Card(2, room=0), model_of(htdemucs()), noise(3 * STRIDE)
    found = joined(list(separate(on(card, model), song)))
    torch.testing.assert_close(found, joined(list(separate(model, song))), atol=1e-6, rtol=0)
    assert (card.kind.type, card.batch, card.is_card) == ("cpu", 1, False)
    assert "computing on the CPU from now on" in caplog.text


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("precision", [EXACT, CLOSE, FAST])
def test_the_processor_goes_on_at_the_precision_of_the_card(
    precision: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "has_bfloat16", lambda: has)
    card, network, mix = Device("meta", 1), torch.nn.Linear(64, 64), torch.randn(1, 2, 64)
    with torch.inference_mode():
        wanted = network(mix)
        rounded = torch.nn.functional.linear(mix.bfloat16(), network.weight.bfloat16(), network.bias.bfloat16())
    card.take_less([], 1)
    found = card.stems(network, mix, precision)
    assert found.dtype == torch.float32
    assert torch.equal(found, rounded.float() if has and precision == FAST else wanted)
    # Where there never was a card, networks are in the form of their precision by themselves.
    assert torch.equal(Device().stems(network, mix, precision), wanted)


def test_memory_that_the_processor_has_not_is_an_error() -> None:
    class Greedy(torch.nn.Module):
        def forward(self, mix: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("no")

    with pytest.raises(torch.OutOfMemoryError):
        list(separate(model_of(Greedy()), noise(100)))


@pytest.mark.parametrize(
    ("built", "error", "reason"),
    [
        (False, None, "is a build without CUDA"),
        (True, "Found no NVIDIA driver on your system.\nC++ trace", "Found no NVIDIA driver on your system."),
    ],
)
def test_a_card_that_cannot_be_used_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, built: bool, error: str | None, reason: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch, "zeros", fails)
    with caplog.at_level(logging.DEBUG):
        wanted, found = choose("cuda"), choose("auto")
    assert wanted.note.startswith("STEMS_DEVICE=cuda, but computing on the CPU: ")
    assert wanted.note.endswith(reason)
    assert found.note == ""
    assert {wanted.kind.type, found.kind.type} == {"cpu"}
    assert not caplog.text


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_card_that_works_is_taken(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(device, "_obstacle", lambda: "")
    found = choose(wanted)
    assert (found.kind.type, found.is_card, found.note) == ("cuda", True, "")
    assert found.batch > 1


def test_the_processor_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_obstacle", lambda: pytest.fail("looked for a card"))
    assert (choose("cpu").kind.type, choose("cpu").batch, choose("cpu").note) == ("cpu", 1, "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_this_machine_says_why_it_has_no_card() -> None:
    assert "CUDA" in choose("cuda").note or "NVIDIA" in choose("cuda").note


def test_networks_go_to_the_card_as_they_are_and_keep_the_precision(tmp_path: Path) -> None:
    model = load("untrained", tmp_path, "fast", Device("meta"))
    assert model.precision == "fast"
    assert not model.in_blocks
    assert {each.device.type for part in model.parts for each in part.network.parameters()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
@pytest.mark.parametrize(("precision", "at_least_db"), [("exact", 100), ("close", 50), ("fast", 35)])
def test_the_stems_of_a_card(precision: str, at_least_db: float) -> None:
    song, wanted = noise(5 * STRIDE), model_of(htdemucs())
    card = Device("cuda")
    network = htdemucs().to(card.kind)
    found = joined(list(separate(replace(model_of(network), device=card, precision=precision), song)))
    assert snr_db(joined(list(separate(wanted, song))), found) > at_least_db
