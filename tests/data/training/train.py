"""The training loop and its command line: `python -m tests.data.training.train --help`.

Everything random in a step follows from the seed and the step's number, so a checkpoint needs no state of any
generator, and a run that was killed and goes on computes what an unbroken one does.
"""

import json
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from demucs.ema import ModelEMA
from torch import nn

from tests.data.training import augment, data, memory, metrics
from tests.data.training.model import ARCHITECTURES, build, export

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
_WARM_UP = 0.03
_LEAST = 1e-4  # of full scale: what counts as silence


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained, on what, and for how long: for a number of `steps`, or for `minutes` where that is None."""

    songs: Path
    out: Path
    valid: Path | None = None
    architecture: str = "demo"
    steps: int | None = None
    minutes: float | None = None
    batch: int = 2
    segment_s: float = 3.0
    rate: float = 2e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    averaging: float = 0.999
    remix: float = 0.5
    epoch_steps: int = 400
    seed: int = 1
    bfloat16: bool = True
    name: str = "demo"

    @property
    def shape(self) -> data.Shape:
        """Return the shape of a batch."""
        return data.Shape(self.batch, round(self.segment_s * data.SAMPLE_RATE_HZ))

    def described(self) -> dict[str, Any]:
        """Return the recipe as plain data, folders by their names: where they lie tells nothing of the weights."""
        return {key: value.name if isinstance(value, Path) else value for key, value in asdict(self).items()}

    def progress(self, step: int, seconds: float) -> float:
        """Return the part of the training, from 0 to 1, that is done after `step` steps and `seconds`."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(seconds / (60 * (self.minutes or math.inf)), 1.0)


def schedule(progress: float) -> float:
    """Return the factor of the learning rate: a short linear rise, then half a cosine down to zero."""
    if progress < _WARM_UP:
        return (progress + 1e-3) / (_WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def loss(estimate: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
    """Return the L1 distance of the waveforms, as demucs has it, over that of each mixture from silence.

    Without the division loud songs would count more than soft ones.
    """
    distance = (estimate - stems).abs().mean((-2, -1))
    mixture = stems.sum(1, keepdim=True).abs().mean((-2, -1))
    return (distance / (mixture + _LEAST)).mean()


class Run:
    """A training under way: the network, its optimiser and running average, and how far it came."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network: nn.Module = build(recipe.architecture, recipe.seed).to(self.device)
        self.average: Any = ModelEMA(  # type: ignore[no-untyped-call]
            self.network, recipe.averaging, device=str(self.device)
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), recipe.rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.augment = augment.chain(recipe.remix)
        self.step = 0
        self.seconds = 0.0
        self.log: list[dict[str, Any]] = []
        self._since = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        """Return the path of the checkpoint."""
        return self.recipe.out / CHECKPOINT

    def progress(self) -> float:
        """Return the part of the training that is done, from 0 to 1; counts the time since the last call."""
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now
        return self.recipe.progress(self.step, self.seconds)

    def save(self) -> None:
        """Write the checkpoint, the log and the averaged weights, each whole or not at all."""
        state = {
            "recipe": self.recipe.described(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)
        part = (self.recipe.out / LOG).with_suffix(".part")
        part.write_text("".join(json.dumps(entry) + "\n" for entry in self.log), "utf-8")
        os.replace(part, self.recipe.out / LOG)
        export(self.network, self.average.state, self.recipe.out / f"{self.recipe.name}.safetensors", self._origin())

    def load(self) -> None:
        """Go on from the checkpoint. Raises ValueError where it is of another recipe; only the end may have moved."""
        state = torch.load(self.checkpoint, self.device, weights_only=True)
        was, wanted = state["recipe"], self.recipe.described()
        if other := sorted(name for name in wanted if was[name] != wanted[name] and name not in ("steps", "minutes")):
            told = ", ".join(f"{name} {was[name]} and not {wanted[name]}" for name in other)
            raise ValueError(f"{self.checkpoint} is of another recipe: {told}")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]

    def learn(self, stems: torch.Tensor) -> float:
        """Take one step on a batch of stems and return its loss; NaN where bad gradients made it be left out."""
        random.seed(f"{self.recipe.seed}/{self.step}")
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        stems = self.augment(stems.to(self.device))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * schedule(self.progress())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            estimate = self.network(stems.sum(1))
        distance = loss(estimate.float(), stems)
        self.optimizer.zero_grad()
        distance.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.step += 1
        if not torch.isfinite(norm):
            return math.nan
        self.optimizer.step()
        self.average.update()
        return float(distance.detach())

    def validate(self, songs: list[data.Song]) -> dict[str, float]:
        """Return the median SDR in dB of each source over three segments of every song, by the averaged weights."""
        found: dict[str, list[float]] = {source: [] for source in data.SOURCES}
        with self.average.swap(), _evaluating(self.network), torch.inference_mode():
            for stems in data.excerpts(songs, self.recipe.shape.length, each=3):
                (estimate,) = self.network(stems.sum(0, keepdim=True).to(self.device)).cpu().float()
                for source, truth, guess in zip(data.SOURCES, stems.numpy(), estimate.numpy(), strict=True):
                    if not metrics.silent(truth):
                        found[source].append(metrics.sdr_db(truth, guess))
        return {source: round(statistics.median(values), 2) for source, values in found.items() if values}

    def _origin(self) -> dict[str, Any]:
        versions = {name: version(name) for name in ("demucs", "torch")}
        return {
            "steps": self.step,
            "seconds": round(self.seconds),
            "songs": self.log[-1]["songs"],
            "recipe": self.recipe.described(),
            "versions": {"python": platform.python_version(), **versions},
        }


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    network.eval()
    try:
        yield
    finally:
        network.train()


def train(recipe: Recipe, say: Callable[[str], object] = click.echo) -> Path:
    """Train until the recipe is done, from the checkpoint in `out` where there is one; return the weights' path.

    Songs are looked for anew in every epoch, since they may still be in the making.
    """
    recipe.out.mkdir(parents=True, exist_ok=True)
    run = Run(recipe)
    if run.checkpoint.exists():
        run.load()
        say(f"going on after step {run.step}, {run.seconds / 60:.1f} min")
    length = recipe.shape.length
    while run.progress() < 1:
        songs = data.scan(recipe.songs, augment.longest(length))
        steps = range(run.step, min(run.step + recipe.epoch_steps, recipe.steps or run.step + recipe.epoch_steps))
        began, losses = time.monotonic(), []
        for stems in data.batches(songs, recipe.shape, recipe.seed, steps):
            losses.append(run.learn(stems))
            if run.progress() >= 1:
                break
        speed = len(losses) * recipe.batch * recipe.segment_s / (time.monotonic() - began)
        sdr_db = run.validate(data.scan(recipe.valid, length)) if recipe.valid else {}
        progress = run.progress()
        entry: dict[str, Any] = {"step": run.step, "seconds": round(run.seconds, 1), "progress": round(progress, 4)}
        finite = [each for each in losses if math.isfinite(each)]
        entry |= {"loss": sum(finite) / max(len(finite), 1), "left_out": len(losses) - len(finite)}
        entry |= {"minutes": recipe.minutes, "songs": len(songs), "speed": round(speed, 2), "sdr_db": sdr_db}
        run.log.append(entry)
        run.save()
        shown = " ".join(f"{source} {value:.2f}" for source, value in sdr_db.items())
        mean = f" mean {sum(sdr_db.values()) / len(sdr_db):.2f}" if sdr_db else ""
        say(
            f"{progress:6.1%} step {run.step} {run.seconds / 60:.1f} min loss {entry['loss']:.5f} "
            f"{speed:.1f}x {len(songs)} songs | SDR dB {shown}{mean}"
        )
    return recipe.out / f"{recipe.name}.safetensors"


@click.command(help="Train a network on a folder of songs; the same command goes on after a kill.")
@click.option("--songs", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--valid", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--architecture", type=click.Choice(sorted(ARCHITECTURES)), default="demo", show_default=True)
@click.option("--steps", type=click.IntRange(1), help="Steps to take.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Wall time to take.")
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True)
@click.option("--segment-s", type=click.FloatRange(1, 39 / 5), default=3.0, show_default=True)
@click.option("--rate", type=float, default=2e-3, show_default=True, help="Highest learning rate.")
@click.option("--weight-decay", type=float, default=1e-2, show_default=True)
@click.option("--clip", type=float, default=1.0, show_default=True, help="Highest norm of the gradients.")
@click.option("--averaging", type=float, default=0.999, show_default=True, help="Decay of the running average.")
@click.option("--remix", type=float, default=0.5, show_default=True, help="Share of batches with stems swapped.")
@click.option("--epoch-steps", type=click.IntRange(1), default=400, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--bfloat16/--float32", default=True, show_default=True)
@click.option("--name", default="demo", show_default=True, help="What the model is called.")
def main(**options: Any) -> None:
    """Train from the command line."""
    recipe = Recipe(**options)
    if (recipe.steps is None) == (recipe.minutes is None):
        raise click.UsageError("give either --steps or --minutes")
    memory.keep()
    click.echo(str(train(recipe)))


if __name__ == "__main__":
    main()
