"""The stems on their way: they add up to the song, at one level."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stems.errors import BadOptions, BadStems
from stems.separate.audio import Song
from stems.separate.engine import Block
from stems.separate.spool import Spool

RATE_HZ = 44100
SOURCES = ("drums", "bass", "other", "vocals")


def make_song(tmp_path: Path, length: int, amplitude: float) -> Song:
    wav = torch.rand(length, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (wav * amplitude).numpy().astype("<f4").tofile(tmp_path / "song.f32")
    return Song(tmp_path / "song.f32", length, 2, RATE_HZ, 0.0, 1.0)


@pytest.mark.parametrize("amplitude", [0.4, 3.0])
@pytest.mark.parametrize(
    "wanted", [["vocals", "no_vocals"], ["no_vocals"], ["drums", "no_drums", "no_vocals"]], ids=str
)
def test_a_stem_and_its_complement_add_up_to_the_song(wanted: list[str], amplitude: float, tmp_path: Path) -> None:
    song = make_song(tmp_path, 5000, amplitude)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    whole = song.read(0, 5000)
    with Spool(tmp_path, SOURCES, wanted) as spool:
        for start, stop in ((0, 3000), (3000, 5000)):
            written = spool.write(Block(start, song.read(start, stop) * shares), song)
            assert list(written) == wanted
            assert spool.length == stop
    assert {path.stem for path in tmp_path.iterdir()} == {"song", *wanted}
    found = {stem: np.fromfile(spool.path(stem), "<f4").reshape(-1, 2).T for stem in wanted}
    for stem, samples in found.items():
        share = float(shares[SOURCES.index(stem.removeprefix("no_"))])
        np.testing.assert_allclose(samples, whole * (1 - share if stem.startswith("no_") else share), atol=1e-6)
        if stem.startswith("no_") and stem[3:] in found:
            np.testing.assert_allclose(samples + found[stem[3:]], whole, atol=1e-6)
    # Of all sources, wanted or not, and of what is wanted without one of them.
    sources = float((whole * shares).abs().max())
    assert spool.peak == pytest.approx(max(sources, *(np.abs(samples).max() for samples in found.values())))
    assert spool.clips == (amplitude > 1)
    assert spool.gain == (1 if amplitude < 1 else pytest.approx(0.999 / spool.peak))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_sample_that_is_no_number_is_no_stem(value: float, tmp_path: Path) -> None:
    song = make_song(tmp_path, 100, 0.5)
    stems = torch.zeros(4, 2, 100)
    with Spool(tmp_path, SOURCES, ["drums"]) as spool:
        spool.write(Block(0, stems[..., :50]), song)
        stems[2, 1, 70] = value
        with pytest.raises(BadStems, match="the model makes no sound of this song: from sample 50 on, its stems"):
            spool.write(Block(50, stems[..., 50:]), song)


@pytest.mark.parametrize("stem", ["piano", "no_piano", "no_no_vocals", "../vocals", ""])
def test_a_stem_the_model_does_not_make_is_refused(stem: str, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="drums, bass, other, vocals, no_drums"):
        Spool(tmp_path, SOURCES, [stem])
