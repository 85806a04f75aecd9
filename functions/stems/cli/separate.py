"""`stems separate`: songs into stems on this machine, without a server."""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stems.cli import progress, shell, terminal
from stems.errors import StemsError
from stems.options import Options

if TYPE_CHECKING:
    from stems.separate.model import Model

_NO_LIMIT = 0  # STEMS_MAX_DURATION_S is about the requests of a service; there are none here


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@shell.output_option
@shell.song_options
@click.option(
    "-f", "--force", is_flag=True, help="Replace stems that are already there; without it, such a song fails."
)
def separate(files: tuple[Path, ...], folder: Path, force: bool, **chosen: str | None) -> None:
    """Separate songs on this machine.

    Songs of the same name go to <name>, <name>-2 and so on. A file that cannot be separated is told of, and the
    others go on.

    \b
    Example:
      stems separate song.mp3
      stems separate --stems vocals,no_vocals --format flac -o karaoke *.mp3
    """
    settings = shell.settings()
    _, options = shell.asked(chosen)
    songs, failed = [], 0
    for path in dict.fromkeys(files):
        if path.is_file():
            songs.append(path)
        else:
            failed += 1
            terminal.complain(f"{path}: there is no such file")
    if not songs:
        sys.exit(1)
    name = options.model or settings.model
    with progress.busy(f"loading the model {name} …"), shell.needs("torch and demucs", "separate"):
        from stems.separate import model as models
        from stems.separate import work  # noqa: F401 - missing packages are told of here, not at the first song

        model = models.load(name, Path(settings.model_dir), settings.precision)
    wanted = options.wanted(model.sources)
    if model.note:
        terminal.warn(f"the model '{name}': {model.note}. `stems model fetch htdemucs` brings one for real music.")
    for path, target in targets(songs, folder):
        try:
            if not force:
                shell.refuse_existing(target, [f"{stem}.{form}" for stem in wanted for form in options.formats])
            _separate(path, target, model, options)
        except (StemsError, OSError) as error:
            failed += 1
            terminal.complain(f"{path}: {error}")
    sys.exit(1 if failed else 0)


def targets(songs: Iterable[Path], folder: Path) -> Iterator[tuple[Path, Path]]:
    """Give each song a folder of its own, also where the file system ignores case."""
    taken: set[str] = set()
    for path in songs:
        name, number = path.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.casefold())
        yield path, folder / name


def _separate(path: Path, target: Path, model: "Model", options: Options) -> None:
    """Separate into a folder beside the target, then move: half a song is never seen under its name."""
    from stems.separate.work import separate_file

    target.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".stems-", dir=target.parent) as scratch:
        with progress.bar(path.name) as on_progress:
            result = separate_file(
                path,
                Path(scratch),
                model=model,
                options=options,
                max_duration_s=_NO_LIMIT,
                on_progress=on_progress,
            )
        target.mkdir(exist_ok=True)
        for made in result.stems:
            made.path.replace(target / f"{made.stem}.{made.format}")
    seconds = time.monotonic() - began
    count = len({made.stem for made in result.stems})
    note = f", lowered by {-result.gain_db:.1f} dB" if result.gain_db < -0.05 else ""
    click.echo(
        terminal.plain(f"{path} -> {target}")
        + f"  {count} stem{'s' if count != 1 else ''}, {terminal.duration(result.duration_s)} in "
        + f"{terminal.took(seconds)} ({result.duration_s / seconds:.1f}x real time){note}"
    )
