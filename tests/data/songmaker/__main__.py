"""Make songs: `python -m tests.data.songmaker FOLDER --set training --songs 300`."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import soundfile

from tests.data.songmaker import fonts
from tests.data.songmaker.compose import Palette
from tests.data.songmaker.score import RATE_HZ, Sampled
from tests.data.songmaker.song import Song, make

# No two sets share a seed, and the test shares no instrument with the others.
_SETS = {
    "training": (0, Palette(fonts.TRAINING, 0.3)),
    "validation": (1_000_000, Palette(fonts.TRAINING, 0.3)),
    "test": (2_000_000, Palette(fonts.TEST, 0.0)),
}


def write(song: Song, folder: Path) -> None:
    """Write the stems and what the song is made of; the folder appears whole or not at all."""
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    for stem, samples in song.stems.items():
        soundfile.write(part / f"{stem}.wav", samples.T, RATE_HZ, subtype="PCM_16")
    score = song.score
    about = {
        "seed": score.seed,
        "key": score.key,
        "beats_per_minute": round(score.beats_per_minute, 1),
        "parts": [
            f"{p.stem} {p.role} "
            + (
                f"{p.instrument.font} {p.instrument.program}"
                if isinstance(p.instrument, Sampled)
                else f"synth {p.instrument.kind}"
            )
            for p in score.parts
        ]
        + [f"vocals {voice.role} sung" for voice in score.sung],
    }
    (part / "song.json").write_text(json.dumps(about, indent=1) + "\n")
    part.rename(folder)


def _make(seed: int, out: Path, duration_s: float, palette: Palette) -> int:
    folder = out / f"{seed:07}"
    if not folder.exists():
        write(make(seed, duration_s, palette), folder)
    return seed


@click.command(help="Make the songs of a set that are not in FOLDER yet.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--set", "kind", type=click.Choice(sorted(_SETS)), default="training", show_default=True)
@click.option("--songs", type=click.IntRange(1), default=10, show_default=True)
@click.option(
    "--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first song of its set."
)
@click.option("--seconds", type=click.FloatRange(5, 600), default=40.0, show_default=True, help="How long each is.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Songs in the making at a time.")
def main(folder: Path, kind: str, songs: int, first: int, seconds: float, jobs: int) -> None:
    """Make songs from the command line."""
    base, palette = _SETS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    job = partial(_make, out=folder, duration_s=seconds, palette=palette)
    seeds = range(base + first, base + first + songs)
    with ProcessPoolExecutor(jobs) as pool, click.progressbar(pool.map(job, seeds), length=songs, label="songs") as bar:
        for _ in bar:
            pass


if __name__ == "__main__":
    main()
