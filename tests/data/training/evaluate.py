"""Evaluation of a model on songs whose stems are known, beside the mixture and simple methods as baselines.

`python -m tests.data.training.evaluate --help`. Stems that are silent in a song are left out, and counted.
"""

import json
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click
import numpy as np
import torch

from stems.separate.engine import separate
from stems.separate.model import Model, load_file
from tests.data.training import baseline, data, metrics

MEASURES: dict[str, Callable[[metrics.Sound, metrics.Sound], float]] = {
    "BSS Eval v4 SDR": metrics.bss_sdr_db,
    "SDR": metrics.sdr_db,
    "SI-SDR": metrics.si_sdr_db,
}
MIXTURE = "mixture"
SIMPLE = "best simple method"
# The share of a stem in the mixture where all have the same power: the least error that a mere gain can have.
_EVEN = 0.25


@dataclass(frozen=True, slots=True)
class Score:
    """What a method reached for one stem of a song; `values_db` holds one value for each of the `MEASURES`."""

    song: str
    source: str
    method: str
    values_db: dict[str, float]


@dataclass(frozen=True)
class Mixture:
    """A song in memory, as the engine reads one: float32 of shape (channels, samples)."""

    samples: torch.Tensor

    @property
    def length(self) -> int:
        """Return the samples per channel."""
        return self.samples.shape[-1]

    @cached_property
    def mean(self) -> float:
        """Return the mean of the channel mean; told once, as its last bits depend on the number of threads."""
        return float(self.samples.mean(0).mean())

    @cached_property
    def deviation(self) -> float:
        """Return the standard deviation of the channel mean."""
        return float(self.samples.mean(0).std())

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return the samples [start, stop)."""
        return self.samples[:, start:stop]


def separated(model: Model, mixture: torch.Tensor) -> dict[str, metrics.Sound]:
    """Return the model's stems of the mixture, by source."""
    stems = torch.cat([block.stems for block in separate(model, Mixture(mixture))], -1)
    return dict(zip(model.sources, stems.numpy(), strict=True))


def evaluate(song: data.Song, path: Path, baselines: bool = True) -> list[Score]:
    """Return the scores of the model in the file `path`, and of the baselines, for the stems heard in `song`."""
    stems = dict(zip(data.SOURCES, song.read(), strict=True))
    mixture = np.sum(list(stems.values()), 0)
    heard = {source for source, stem in stems.items() if not metrics.silent(stem)}
    scores = []

    def judge(source: str, method: str, estimate: metrics.Sound) -> None:
        if source in heard:
            values_db = {name: measure(stems[source], estimate) for name, measure in MEASURES.items()}
            scores.append(Score(song.name, source, method, values_db))

    for source, estimate in separated(load_file(path), torch.from_numpy(mixture)).items():
        judge(source, path.stem, estimate)
    for source in data.SOURCES:
        judge(source, MIXTURE, mixture)
    if baselines:
        for source, variant, estimate in baseline.estimates(mixture, data.SAMPLE_RATE_HZ):
            judge(source, variant, estimate)
        for source in data.SOURCES:
            judge(source, f"mixture, {_EVEN:g} x", np.asarray(_EVEN * mixture, np.float32))
    return scores


def summary(scores: Iterable[Score], model: str) -> dict[str, Any]:
    """Return, for every measure, source and method, the median and the mean in dB and the songs that count.

    The best simple method of a source is the variant with the highest median over the songs: chosen with the truth in
    sight, in its favour. A value that is not a number (all windows silent) does not count.
    """
    collected: dict[str, dict[str, dict[str, list[float]]]] = {}
    for score in scores:
        for measure, value in score.values_db.items():
            if not math.isnan(value):
                of_source = collected.setdefault(measure, {}).setdefault(score.source, {})
                of_source.setdefault(score.method, []).append(value)
    return {
        measure: {source: _methods(by_source[source], model) for source in data.SOURCES if source in by_source}
        for measure, by_source in collected.items()
    }


def _methods(values_db: dict[str, list[float]], model: str) -> dict[str, dict[str, Any]]:
    kept = {method: values_db[method] for method in (model, MIXTURE) if method in values_db}
    simple = {method: values for method, values in values_db.items() if method not in kept}
    found: dict[str, dict[str, Any]] = {method: _figures(values) for method, values in kept.items()}
    if simple:
        best = max(simple, key=lambda method: median(simple[method]))
        found[SIMPLE] = {"variant": best, **_figures(simple[best])}
    return found


def _figures(values_db: list[float]) -> dict[str, Any]:
    return {"median_db": median(values_db), "mean_db": fmean(values_db), "songs": len(values_db)}


def table(summed: dict[str, Any], model: str) -> str:
    """Return the summary as Markdown: a table per measure, each cell the median and, in brackets, the mean in dB."""
    lines = []
    for measure, by_source in summed.items():
        lines += [f"**{measure}**, dB: median (mean) over the songs", ""]
        sources = list(by_source)
        lines += ["| method | " + " | ".join([*sources, "mean of stems"]) + " |", "|---" * (len(sources) + 2) + "|"]
        for method in (model, MIXTURE, SIMPLE):
            cells = [by_source[source][method] for source in sources if method in by_source[source]]
            if len(cells) == len(sources):
                shown = [_cell(cell["median_db"], cell["mean_db"]) for cell in cells]
                overall = _cell(fmean(cell["median_db"] for cell in cells), fmean(cell["mean_db"] for cell in cells))
                lines.append("| " + " | ".join([method, *shown, overall]) + " |")
        counts = [str(by_source[source][model]["songs"]) for source in sources]
        lines += ["| songs | " + " | ".join([*counts, ""]) + "|", ""]
    variants = [
        f"{source}: {methods[SIMPLE]['variant']}"
        for source, methods in next(iter(summed.values()), {}).items()
        if SIMPLE in methods
    ]
    return "\n".join(lines + ([f"Best simple methods: {'; '.join(variants)}."] if variants else [])) + "\n"


def _cell(median_db: float, mean_db: float) -> str:
    return f"{median_db:.2f} ({mean_db:.2f})"


def _single_thread() -> None:
    torch.set_num_threads(1)


@click.command(help="Evaluate the model file MODEL (<name>.safetensors) on the folder SONGS.")
@click.argument("songs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Also write all figures.")
@click.option("--baselines/--no-baselines", default=True, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
def main(songs: Path, model: Path, report: Path | None, baselines: bool, workers: int) -> None:
    """Evaluate from the command line."""
    found = data.scan(songs)
    scores: list[Score] = []
    with ProcessPoolExecutor(workers, get_context("spawn"), _single_thread) as pool:
        judged = pool.map(partial(evaluate, path=model, baselines=baselines), found)
        with click.progressbar(judged, length=len(found), label="songs") as bar:
            for each in bar:
                scores += each
    summed = summary(scores, model.stem)
    if report:
        content = {"summary": summed, "songs": len(found), "scores": [asdict(score) for score in scores]}
        report.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    click.echo(table(summed, model.stem))


if __name__ == "__main__":
    main()
