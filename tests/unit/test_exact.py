"""From files to stems, exactly: every shape of published models against `demucs.api.Separator` on the same files."""

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
from tests.networks import write
from tests.unit.test_engine import FOUR, SIX, joined, noise

RATE_HZ = 8000
LENGTH = 20_011  # two segments and a part of one
SMALL: dict[str, Any] = {"channels": 8, "samplerate": RATE_HZ, "segment": Fraction(1)}
TRANSFORMER = {"dconv_mode": 3, "bottom_channels": 32, "t_layers": 3, "t_heads": 2}


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
    write(tmp_path, "0a", HTDemucs, sources, SMALL | TRANSFORMER)
    assert least_db(tmp_path, sources, {"models": ["0a"]}) >= 100


def test_htdemucs_ft_is_a_bag_of_one_network_for_each_stem(tmp_path: Path) -> None:
    signatures = ["0a", "0b", "0c", "0d"]
    for signature in signatures:
        write(tmp_path, signature, HTDemucs, FOUR, SMALL | TRANSFORMER)
    assert least_db(tmp_path, FOUR, {"models": signatures, "weights": torch.eye(4).tolist()}) >= 100
    assert load("mine", tmp_path).in_blocks


def test_hdemucs_is_computed_by_demucs_own_code(tmp_path: Path) -> None:
    write(tmp_path, "0a", HDemucs, FOUR, SMALL)
    assert least_db(tmp_path, FOUR, {"models": ["0a"]}) >= 100
    assert not load("mine", tmp_path).in_blocks
