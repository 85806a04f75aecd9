"""`stems separate`: songs into stems on this machine, without a server."""

import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Self

import click

from stems.cli import progress, shell, terminal
from stems.errors import StemsError
from stems.options import Options, extension

if TYPE_CHECKING:
    from stems.separate.model import Model

_NO_LIMIT = 0  # STEMS_MAX_DURATION_S is about the requests of a service; there are none here
_PACKAGES = ("torch and demucs", "separate")


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
    places = list(targets(songs, folder))
    with _stopped_by_signals(), shell.needs(*_PACKAGES), _Begun(*places[0]) as first:
        with progress.busy(f"loading the model {name} …"):
            from stems.separate import model as models
            from stems.separate import work  # noqa: F401 - missing packages are told of here, not at the first song
            from stems.separate.device import choose

            model = models.load(name, Path(settings.model_dir), settings.precision, choose(settings.device))
        wanted = options.wanted(model.sources)
        if model.note:
            terminal.warn(f"the model '{name}': {model.note}. `stems model fetch htdemucs` brings one for real music.")
        for each in filter(None, (model.device.note, model.shortfall)):
            terminal.warn(each)
        names = [f"{stem}.{extension(each)}" for stem in wanted for each in options.formats]
        for path, target in places:
            try:
                with first if path == first.path else _Begun(path, target) as song:
                    if not force:
                        shell.refuse_existing(target, names)
                    _separate(song, model, options)
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


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does: its files and children are cleared away.

    They are heard between two operations of the network, of which a segment has hundreds.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # once is enough: what clears away must not be stopped
        sys.exit(128 + number)

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    # Who started us with nohup wants us to go on.
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep all signals that end the command until the block has ended."""
    kept: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        kept.append(number)

    # By handlers: what one thread masks, another one takes.
    before = {each: signal.signal(each, keep) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in kept:
            signal.raise_signal(number)


class _Begun:
    """A song whose decoding has begun: the first one's while torch is imported. A context manager.

    `scratch` is a folder beside the target, from where the stems are moved: half a song is never seen under its name.
    """

    def __init__(self, path: Path, target: Path) -> None:
        from stems.separate.audio import Decoding

        self.path, self.target, self.began_s = path, target, time.monotonic()
        self._alone = not target.parent.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix=".stems-", dir=target.parent)
        self.scratch = Path(self._folder.name)
        self.decoding = Decoding(path, self.scratch / "song.f32", max_duration_s=_NO_LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.decoding.stop()
        self._folder.cleanup()
        if self._alone:
            with suppress(OSError):  # it holds stems
                self.target.parent.rmdir()


def _separate(song: _Begun, model: "Model", options: Options) -> None:
    """Separate a song, and move its stems to where they belong."""
    from stems.separate.work import separate_file

    with progress.bar(song.path.name) as on_progress:
        result = separate_file(
            song.path,
            song.scratch,
            model=model,
            options=options,
            max_duration_s=_NO_LIMIT,
            on_progress=on_progress,
            decoding=song.decoding,
        )
    with _undisturbed():  # half a set of stems, or one of old and new ones, looks like a whole one
        song.target.mkdir(exist_ok=True)
        for made in result.stems:
            made.path.replace(song.target / f"{made.stem}.{made.format}")
    seconds = time.monotonic() - song.began_s
    count = len({made.stem for made in result.stems})
    note = f", lowered by {-result.gain_db:.1f} dB" if result.gain_db < -0.05 else ""
    click.echo(
        terminal.plain(f"{song.path} -> {song.target}")
        + f"  {count} stem{'s' if count != 1 else ''}, {terminal.duration(result.duration_s)} in "
        + f"{terminal.took(seconds)} ({result.duration_s / seconds:.1f}x real time){note}"
    )
