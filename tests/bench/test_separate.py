"""`stems separate` beside the command line of demucs: the same weights, the same songs, in turn; then stem by stem.

The network has the size of htdemucs. Its weights are random, with a seed and with scales (LayerScale) at which every
branch counts: it takes as long and must be as exact, but separates nothing.
"""

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from demucs.api import Separator
from demucs.htdemucs import HTDemucs

from stems.config import PRECISIONS
from stems.separate import audio, engine
from stems.separate import model as models
from tests.audio import snr_db
from tests.bench.machine import machine
from tests.cluster.songs import lasting

ROUNDS = 3
LENGTHS_S = (60, 180)
EXACTLY_S = 60
SOURCES = ["drums", "bass", "other", "vocals"]
NAME, SIGNATURE = "full", "f0115122"
ARGUMENTS = {"dconv_mode": 3, "bottom_channels": 512, "t_layers": 5, "t_heads": 8, "t_dropout": 0.02}


@dataclass
class Side:
    """A way to separate a song, with what its runs took."""

    name: str
    command: Sequence[str]
    environ: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)

    def run(self, song: Path, out: Path) -> None:
        """Separate `song` in a process of its own, with nothing loaded before."""
        command = [*self.command, str(out / self.name), str(song)]
        started = time.monotonic()
        with (out / "errors").open("wb") as errors:
            process = subprocess.Popen(
                command, env={**os.environ, **self.environ}, stdout=subprocess.DEVNULL, stderr=errors
            )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, (out / "errors").read_text()[-2000:]
        self.seconds.append(time.monotonic() - started)
        self.mebibytes.append(usage.ru_maxrss / 1024)


def weights(folder: Path) -> None:
    """Write the network into `folder`, as demucs publishes them, and the bag that names it."""
    torch.manual_seed(7)
    network = HTDemucs(SOURCES, segment=Fraction(39, 5), **ARGUMENTS)
    for name, parameter in network.named_parameters():
        if name.endswith(".scale"):
            torch.nn.init.uniform_(parameter, 0.05, 0.5)
    content = {"klass": HTDemucs, "args": (SOURCES,), "kwargs": {"segment": Fraction(39, 5), **ARGUMENTS}}
    path = folder / "new.th"
    torch.save({**content, "state": network.state_dict()}, path)
    path.rename(folder / f"{SIGNATURE}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.th")
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump({"models": [SIGNATURE]}))


def sides(folder: Path) -> list[Side]:
    ours = [sys.executable, "-m", "stems.cli", "separate", "--model", NAME, "-o"]
    path = {"STEMS_MODEL_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    theirs = [sys.executable, "-m", "demucs", "--repo", str(folder), "-n", NAME, "-d", "cpu", "--mp3", "-o"]
    return [
        Side("demucs", theirs),
        *(Side(f"stems {precision}", ours, {**path, "STEMS_PRECISION": precision}) for precision in PRECISIONS),
    ]


@pytest.mark.bench
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("duration_s", LENGTHS_S)
def test_cold_beside_demucs(tmp_path: Path, duration_s: int) -> None:
    weights(tmp_path)
    song = lasting(tmp_path / "song.mp3", duration_s)
    runs = sides(tmp_path)
    print(f"\n{machine()}\n{duration_s} s of music to four MP3s, each run a process of its own; medians of {ROUNDS}")
    for _ in range(ROUNDS):
        for index, side in enumerate(runs):
            out = tmp_path / f"{index}-{len(side.seconds)}"
            out.mkdir()
            side.run(song, out)
    base = statistics.median(runs[0].seconds)
    for side in runs:
        seconds = statistics.median(side.seconds)
        spread = " ".join(f"{each:.1f}" for each in side.seconds)
        memory = f"{max(side.mebibytes):5.0f} MiB at most"
        print(f"  {side.name:16} {seconds:6.1f} s ({spread})  {base / seconds:4.2f} x  {memory}")


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_stem_by_stem(tmp_path: Path) -> None:
    weights(tmp_path)
    path = lasting(tmp_path / "song.mp3", EXACTLY_S)
    song = audio.decode(path, tmp_path / "song.f32", sample_rate_hz=44100, channels=2)
    # Before anything of ours changes how this process allocates or divides its work.
    _, theirs = Separator(model=NAME, repo=tmp_path, shifts=0).separate_tensor(song.read(0, song.length), 44100)
    print(f"\n{machine()}\n{EXACTLY_S} s of music, dB between a stem of demucs and its difference from ours")
    for precision in PRECISIONS:
        model = models.load(NAME, tmp_path, precision)
        with closing(engine.separate(model, song)) as blocks:
            ours = torch.cat([block.stems for block in blocks], -1)
        levels = [f"{source} {snr_db(theirs[source], stem):.1f}" for source, stem in zip(SOURCES, ours, strict=True)]
        print(f"  {precision:16} {'  '.join(levels)}")
