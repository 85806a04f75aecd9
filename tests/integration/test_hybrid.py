"""A small network of htdemucs' kind, twice in a bag, by the ways that people have: the command line and the service.

It goes the ways of the real ones, which the bundled models do not: kernels, several segments at a time, precisions.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.api import Separator

from stems.config import CLOSE, EXACT, FAST
from stems.separate import audio, kernels
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.audio import ffmpeg, snr_db
from tests.cli import program
from tests.conftest import QUICK
from tests.networks import SMALL, write_small
from tests.pipeline import Pipeline, samples
from tests.programs import CHECKOUT, need

SONG = CHECKOUT / "tests" / "data" / "song.mp3"
LEAST_DB = {EXACT: 100, CLOSE: 60, FAST: 35}


@dataclass(frozen=True)
class Reference:
    """A song with a cover, what demucs makes of it, and the settings that name the network."""

    path: Path
    cover: Path
    mix: torch.Tensor
    stems: Mapping[str, torch.Tensor]
    settings: Mapping[str, str]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    need("ffmpeg")
    folder = tmp_path_factory.mktemp("hybrid")
    path, cover = folder / "song.mp3", folder / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x48:d=0.04", "-frames:v", "1", str(cover))
    # Loud: by random weights, what is left without some source of it goes beyond full scale.
    ffmpeg(
        "-i", str(SONG), "-i", str(cover), "-map", "0:a", "-map", "1", "-t", "9", "-af", "volume=1.1", "-c:v", "copy",
        "-disposition:v", "attached_pic", "-metadata", "title=Song", str(path),
    )  # fmt: skip
    settings = write_small(folder)
    song = audio.decode(path, folder / "song.f32", sample_rate_hz=44100, channels=2)
    mix = song.read(0, song.length)
    _, stems = Separator(model=SMALL, repo=folder, shifts=0, device="cpu").separate_tensor(mix, 44100)
    return Reference(path, cover, mix, stems, settings)


def pixels(song: bytes, folder: Path) -> str:
    """Return the width and height of the cover in a file of sound, in ffmpeg's words."""
    (folder / "with.cover").write_bytes(song)
    found = ffmpeg("-i", str(folder / "with.cover"), "-map", "0:v", "-f", "framecrc", "-")
    return next(line for line in found.decode().splitlines() if line.startswith("#dimensions 0: "))[15:]


@pytest.mark.parametrize("precision", LEAST_DB)
def test_the_command_line_makes_the_stems_of_demucs(precision: str, reference: Reference, tmp_path: Path) -> None:
    if precision != EXACT and not kernels.has_bfloat16():
        pytest.skip(kernels.NO_BFLOAT16)
    settings = {**reference.settings, "STEMS_PRECISION": precision, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    arguments = ("--format", "wav-32f,flac,mp3", "-o", str(tmp_path), str(reference.path))
    with program("separate", *arguments, environ={**settings, "STEMS_DEVICE": "cpu"}) as running:
        _, told = running.communicate(timeout=100)
    assert running.returncode == 0, told
    made = {stem: samples((tmp_path / "song" / f"{stem}.wav").read_bytes()).T for stem in reference.stems}
    assert gain_of(*reference.stems.values()) == 1
    for stem, wanted in reference.stems.items():
        level_db = snr_db(wanted, torch.from_numpy(made[stem].copy()))
        assert level_db >= LEAST_DB[precision], (stem, level_db)
        for format in ("flac", "mp3"):
            assert pixels((tmp_path / "song" / f"{stem}.{format}").read_bytes(), tmp_path) == "64x48"


def gain_of(*stems: torch.Tensor) -> float:
    """Return the one gain at which none of these clips."""
    peak = max(float(each.abs().max()) for each in stems)
    return 0.999 / peak if peak > 1 else 1


@pytest.fixture(scope="module")
def service(reference: Reference, programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    stack = Stack(tmp_path_factory.mktemp("service"), programs, {**QUICK, **reference.settings, "STEMS_DEVICE": "cpu"})
    stack.start()
    pipeline = Pipeline(stack)
    yield pipeline
    pipeline.close()
    stack.stop()


@pytest.mark.timeout(300)
def test_the_service_makes_the_stems_of_demucs_and_all_requests_add_up(
    service: Pipeline, reference: Reference, tmp_path: Path
) -> None:
    etag = service.put(reference.path, "all.mp3", {"format": "wav-32f,flac,mp3"})
    track = service.done("all.mp3", etag, deadline_s=120)
    assert track["model"]["precision"] == EXACT
    assert {stem["gain_db"] for stem in track["stems"]} == {0}

    def fetched(stem: str, format: str) -> bytes:
        return service.download(f"/v1/tracks/{track['songhash']}/{stem}.{format}")

    def right(gain: float) -> None:
        for stem, wanted in reference.stems.items():
            found = torch.from_numpy(samples(fetched(stem, "wav")).T.copy())
            assert snr_db(gain * wanted, found) >= LEAST_DB[EXACT], stem
            for format in ("flac", "mp3"):
                assert pixels(fetched(stem, format), tmp_path) == "64x48"

    right(1)

    later = service.put(reference.path, "later.mp3", {"format": "wav-32f", "stems": "vocals,no_vocals"})
    track = service.done("later.mp3", later, deadline_s=120)
    # No source clips, but the song without its vocals does: what was there is made again, at the gain of all.
    gain = gain_of(*reference.stems.values(), reference.mix - reference.stems["vocals"])
    assert gain < 0.99
    assert len(track["stems"]) == 15
    for stem in track["stems"]:
        assert stem["gain_db"] == pytest.approx(20 * math.log10(gain), abs=1e-3)
    right(gain)
    both = samples(fetched("vocals", "wav")) + samples(fetched("no_vocals", "wav"))
    np.testing.assert_allclose(both, gain * reference.mix.numpy().T, atol=1e-5)
