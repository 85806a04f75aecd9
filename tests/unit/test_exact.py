"""From files to stems, exactly: every shape of published models against `demucs.api.Separator` on the same files."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from demucs.api import Separator
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from stems.separate.engine import separate
from stems.separate.model import load
from tests.audio import snr_db
from tests.unit.test_engine import FOUR, SIX, joined, noise

RATE_HZ = 8000
LENGTH = 20_011  # two segments and a part of one
SMALL: dict[str, Any] = {"channels": 8, "samplerate": RATE_HZ, "segment": Fraction(1)}
TRANSFORMER = {"dconv_mode": 3, "bottom_channels": 32, "t_layers": 3, "t_heads": 2}


def write(folder: Path, signature: str, klass: type[torch.nn.Module], sources: Sequence[str], **more: Any) -> None:
    """Write a network as demucs publishes them, with scales at which every branch counts."""
    torch.manual_seed(int(signature[:2], 16))
    network = klass(sources, **SMALL, **more)
    for name, parameter in network.named_parameters():
        if name.endswith(".scale"):
            torch.nn.init.uniform_(parameter, 0.05, 0.5)
    path = folder / "new.th"
    content = {"klass": klass, "args": (list(sources),), "kwargs": {**SMALL, **more}, "state": network.state_dict()}
    torch.save(content, path)
    path.rename(folder / f"{signature}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.th")


def least_db(folder: Path, sources: Sequence[str], bag: dict[str, Any]) -> float:
    """Return how far our difference from demucs is below the stem it is nearest to."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(bag))
    song = noise(LENGTH)
    _, theirs = Separator(model="mine", repo=folder, shifts=0, device="cpu").separate_tensor(song.wav, RATE_HZ)
    model = load("mine", folder)
    ours = joined(list(separate(model, song)))
    assert list(theirs) == list(model.sources) == list(sources)
    return min(snr_db(theirs[source], stem) for source, stem in zip(sources, ours, strict=True))


@pytest.mark.parametrize("sources", [FOUR, SIX], ids=["htdemucs", "htdemucs_6s"])
def test_a_transformer_of_four_or_six_stems(tmp_path: Path, sources: list[str]) -> None:
    write(tmp_path, "0a", HTDemucs, sources, **TRANSFORMER)
    assert least_db(tmp_path, sources, {"models": ["0a"]}) >= 100


def test_htdemucs_ft_is_a_bag_of_one_network_for_each_stem(tmp_path: Path) -> None:
    signatures = ["0a", "0b", "0c", "0d"]
    for signature in signatures:
        write(tmp_path, signature, HTDemucs, FOUR, **TRANSFORMER)
    assert least_db(tmp_path, FOUR, {"models": signatures, "weights": torch.eye(4).tolist()}) >= 100
    assert load("mine", tmp_path).in_blocks


def test_hdemucs_is_computed_by_demucs_own_code(tmp_path: Path) -> None:
    write(tmp_path, "0a", HDemucs, FOUR)
    assert least_db(tmp_path, FOUR, {"models": ["0a"]}) >= 100
    assert not load("mine", tmp_path).in_blocks
