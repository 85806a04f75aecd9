"""`stems separate` and the service beside the command line of demucs: the same weights and songs, in turn.

The network has the size of htdemucs. Its weights are random, with a seed and with scales (LayerScale) at which every
branch counts: it takes as long and must be as exact, but separates nothing. The song is the bundled one, 30 s that a
program composed, over and over: no recordings can be bundled, and what it holds changes neither time nor memory.
How near the stems are to those of demucs is told of the song that is timed, as the engine makes them: MP3s would hide
it behind their own error.
`make bench-separate` runs all but the long songs; ROUNDS=5 runs more rounds than three, ARGS="-k long" the long ones.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from demucs.api import Separator
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from stems.config import EXACT, FAST, PRECISIONS
from stems.separate import audio, engine
from stems.separate import model as models
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.bench.machine import machine
from tests.bench.tree import Tree
from tests.cluster.songs import lasting
from tests.networks import write
from tests.pipeline import Pipeline

ROUNDS = int(os.environ.get("ROUNDS") or 3)
LENGTHS_S = (60, 180)
LONG_MIN = (1, 20, 60)
EXACTLY_S = 60
WARM = (EXACT, FAST)
SOURCES = ["drums", "bass", "other", "vocals"]
NAME, SIGNATURE = "full", "f0115122"
ARGUMENTS: dict[str, Any] = {
    "segment": Fraction(39, 5),
    "dconv_mode": 3,
    "bottom_channels": 512,
    "t_layers": 5,
    "t_heads": 8,
    "t_dropout": 0.02,
}
# Networks, stems and bags as large as those of published models.
SHAPES: Mapping[str, tuple[type[torch.nn.Module], Sequence[str], dict[str, Any], dict[str, Any]]] = {
    "htdemucs_ft": (
        HTDemucs,
        SOURCES,
        ARGUMENTS,
        {"models": ["0a", "0b", "0c", "0d"], "weights": torch.eye(4).tolist()},
    ),
    "htdemucs_6s": (HTDemucs, [*SOURCES, "guitar", "piano"], ARGUMENTS, {"models": ["0a"]}),
    "hdemucs": (HDemucs, SOURCES, {}, {"models": ["0a"], "segment": 44}),
}

# Separates a song, the first path, into the folder, the second one. Returns the most memory that was held, in MiB.
Way = Callable[[Path, Path], float]


@dataclass
class Side:
    """A way to separate a song, with what its runs took, and how far its stems are from those of demucs."""

    name: str
    way: Way
    levels: str = ""
    seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)

    def run(self, duration_s: float, folder: Path) -> None:
        """Separate a song that lasts so long, with bytes of its own: the service would know it again."""
        folder.mkdir()
        song = lasting(folder / f"{folder.name}.mp3", duration_s)
        started = time.monotonic()
        self.mebibytes.append(self.way(song, folder))
        self.seconds.append(time.monotonic() - started)


def cold(*command: str, **environ: str) -> Way:
    """Return the way of a process of its own, with nothing loaded before; its last arguments are folder and song."""

    def run(song: Path, out: Path) -> float:
        with (out / "errors").open("wb") as errors:
            process = subprocess.Popen(
                [*command, str(out), str(song)],
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            with Tree(process.pid) as tree:
                process.wait()
        assert process.returncode == 0, (out / "errors").read_text()[-2000:]
        return tree.peak_mib

    return run


def warm(pipeline: Pipeline) -> Way:
    """Return the way of a service that runs: from the PUT of a song to the record of its stems."""
    worker = pipeline.stack.pid("pipeline:separate")

    def run(song: Path, out: Path) -> float:
        with Tree(worker) as tree:
            pipeline.done(song.name, pipeline.put(song, song.name), deadline_s=7200)
        return tree.peak_mib

    return run


def weights(folder: Path) -> None:
    """Write the network into `folder`, and the bag that names it."""
    write(folder, SIGNATURE, HTDemucs, SOURCES, ARGUMENTS)
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump({"models": [SIGNATURE]}))


def ours(folder: Path, precision: str) -> Way:
    path = {"STEMS_MODEL_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "stems.cli", "separate", "--model", NAME, "-o"]
    return cold(*command, **path, STEMS_PRECISION=precision, STEMS_DEVICE="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder with the network."""
    made = tmp_path_factory.mktemp("models")
    weights(made)
    return made


@dataclass(frozen=True)
class Reference:
    """A decoded song, and the stems of demucs, each in a file: it holds all of them in memory, we need not."""

    song: audio.Song
    stems: Mapping[str, Path]

    @classmethod
    def made(cls, models_folder: Path, scratch: Path, duration_s: int) -> "Reference":
        path = lasting(scratch / f"{duration_s}.mp3", duration_s)
        song = audio.decode(path, scratch / f"{duration_s}.f32", sample_rate_hz=44100, channels=2)
        separator = Separator(model=NAME, repo=models_folder, shifts=0, device="cpu")
        _, made = separator.separate_tensor(song.read(0, song.length), 44100)
        files = {source: scratch / f"{duration_s}-{source}.npy" for source in made}
        for source, path in files.items():
            np.save(path, made[source].numpy())
        return cls(song, files)

    def decibels(self, model: models.Model) -> str:
        """Return the dB between each stem of demucs and its difference from ours."""
        theirs = [np.load(self.stems[source], mmap_mode="r") for source in model.sources]
        signals, errors = ([0.0] * len(theirs) for _ in range(2))
        with closing(engine.separate(model, self.song)) as blocks:
            for block in blocks:
                span = slice(block.start, block.start + block.stems.shape[-1])
                for index, ours in enumerate(block.stems):
                    wanted = theirs[index][:, span].astype(np.float64)
                    signals[index] += np.square(wanted).sum()
                    errors[index] += np.square(wanted - ours.numpy()).sum()
        pairs = zip(model.sources, signals, errors, strict=True)
        return " ".join(f"{source} {10 * np.log10(signal / error):.1f}" for source, signal, error in pairs)


@pytest.fixture(scope="module")
def levels(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[int, str], str]:
    """Return, for each song that is timed and each precision, what `Reference.decibels` tells."""
    scratch = tmp_path_factory.mktemp("levels")
    # All of demucs before anything of ours changes how this process allocates or divides its work.
    references = {duration_s: Reference.made(folder, scratch, duration_s) for duration_s in LENGTHS_S}
    return {
        (duration_s, precision): reference.decibels(models.load(NAME, folder, precision))
        for precision in PRECISIONS
        for duration_s, reference in references.items()
    }


@pytest.fixture(scope="module")
def services(
    programs: Programs, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Pipeline]]:
    """Start a pipeline for each precision that is measured warm, and let it separate a first song."""
    started: dict[str, Pipeline] = {}
    try:
        for precision in WARM:
            root = tmp_path_factory.mktemp(precision)
            settings = {"STEMS_MODEL": NAME, "STEMS_MODEL_DIR": str(folder), "STEMS_PRECISION": precision}
            stack = Stack(root, programs, {**settings, "STEMS_DEVICE": "cpu"})
            stack.start()
            started[precision] = Pipeline(stack)
            first = lasting(root / "first.mp3", 20)
            started[precision].done("first.mp3", started[precision].put(first, "first.mp3"), deadline_s=600)
        yield started
    finally:
        for pipeline in started.values():
            pipeline.close()
            pipeline.stack.stop()


@pytest.mark.bench
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("duration_s", LENGTHS_S)
def test_beside_demucs(
    tmp_path: Path,
    folder: Path,
    levels: Mapping[tuple[int, str], str],
    services: Mapping[str, Pipeline],
    duration_s: int,
) -> None:
    theirs = cold(sys.executable, "-m", "demucs", "--repo", str(folder), "-n", NAME, "-d", "cpu", "--mp3", "-o")
    runs = [
        Side("demucs", theirs),
        *(Side(f"{each}, cold", ours(folder, each), levels[duration_s, each]) for each in PRECISIONS),
        *(Side(f"{each}, service", warm(services[each]), levels[duration_s, each]) for each in WARM),
    ]
    for number in range(ROUNDS):
        for index, side in enumerate(runs):
            side.run(duration_s, tmp_path / f"{index}-{number}-{duration_s}")
    print(
        f"\n{machine()}\n{duration_s} s of the bundled song, looped, to four MP3s, medians of {ROUNDS} rounds in turn;"
    )
    print(
        "most memory of all its processes; dB between a stem of demucs and its difference from ours, of this song, as"
    )
    print("the engine makes them. Random weights")
    base = statistics.median(runs[0].seconds)
    for side in runs:
        seconds = statistics.median(side.seconds)
        spread = " ".join(f"{each:.1f}" for each in side.seconds)
        memory = f"{max(side.mebibytes):5.0f} MiB"
        print(f"  {side.name:15} {seconds:6.1f} s ({spread})  {base / seconds:4.2f} x  {memory}  {side.levels}")


@pytest.mark.bench
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("shape", SHAPES)
def test_exact_in_every_shape(tmp_path: Path, shape: str) -> None:
    klass, sources, arguments, bag = SHAPES[shape]
    for signature in bag["models"]:
        write(tmp_path, signature, klass, sources, arguments)
    (tmp_path / f"{NAME}.yaml").write_text(yaml.safe_dump(bag))
    reference = Reference.made(tmp_path, tmp_path, EXACTLY_S)
    found = reference.decibels(models.load(NAME, tmp_path, EXACT))
    print(f"\n{machine()}\n{EXACTLY_S} s of the bundled song, looped, {shape}, {EXACT}, dB: {found}")


@pytest.mark.bench
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("minutes", LONG_MIN)
@pytest.mark.parametrize("precision", [EXACT, FAST])
def test_a_long_song(tmp_path: Path, folder: Path, precision: str, minutes: int) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    side = Side(f"{precision}, cold", ours(folder, precision))
    side.run(60 * minutes, tmp_path / "long")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / (60 * minutes)
    _tell(minutes, side, f" ({computed:.3f} of processor time)")


@pytest.mark.bench
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("minutes", LONG_MIN)
@pytest.mark.parametrize("precision", WARM)
def test_a_long_song_by_the_service(
    tmp_path: Path, services: Mapping[str, Pipeline], precision: str, minutes: int
) -> None:
    side = Side(f"{precision}, service", warm(services[precision]))
    side.run(60 * minutes, tmp_path / "long")
    _tell(minutes, side)


def _tell(minutes: int, side: Side, more: str = "") -> None:
    each = side.seconds[0] / (60 * minutes)
    print(
        f"\n{machine()}\n{minutes} min of the bundled song, looped, {side.name}: {each:.3f} s a second of song{more},",
        end=" ",
    )
    print(f"{side.mebibytes[0]:.0f} MiB at most")
