"""What every command stands on: settings, errors as sentences, extras that may be missing, options of a song."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from stems.cli import terminal
from stems.config import Settings, environment
from stems.errors import StemsError
from stems.options import FORMATS, Options

_Command = TypeVar("_Command", bound=Callable[..., Any])

INTERRUPTED = 130  # 128 + SIGINT, as shells do


class Failure(click.ClickException):
    """Ends a command with a sentence on stderr."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it as the complaints about single songs are said."""
        terminal.complain(self.message)


class MissingExtra(Failure):
    """A command needs a package that is not installed."""

    exit_code = 2


class Shell(click.Group):
    """A group whose commands end with a sentence where others end with a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added, which is that of use."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the process edge for errors that were raised on purpose, and for Ctrl-C."""
        try:
            return super().invoke(ctx)
        except StemsError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough: click ends quietly
                raise
            raise Failure(str(error)) from error
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


def values() -> dict[str, str]:
    """Return the environment of the running command, with its env file."""
    env_file: Path | None = click.get_current_context().find_object(Path)
    return environment(env_file)


def settings() -> Settings:
    """Return the settings of the running command. Raises ConfigError."""
    return Settings.from_env(values())


@contextmanager
def needs(packages: str, extra: str) -> Iterator[None]:
    """Import inside this block what the extra `extra` brings; a missing package becomes MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stems."):
            raise  # not missing but broken: a traceback says more
        command = click.get_current_context().command_path
        raise MissingExtra(f"{command} needs {packages}: pip install '.[{extra}]' in the checkout of stems") from error


def output_option(command: _Command) -> _Command:
    """Add the option `folder`: where stems are written."""
    return click.option(
        "-o",
        "--output",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("stems-out"),
        show_default=True,
        metavar="DIR",
        help="Write to DIR/<name of the song>/<stem>.<format>.",
    )(command)


def song_options(command: _Command) -> _Command:
    """Add the options that say what is asked of a song: `model`, `stems`, `format`."""
    formats = ", ".join(FORMATS)
    added = (
        click.option("--model", metavar="NAME", help="Separate with this model, by default that of STEMS_MODEL."),
        click.option("--stems", metavar="STEM,…", help="Make these alone, e.g. vocals,no_vocals. [default: all]"),
        click.option(
            "--format",
            metavar="FORMAT,…",
            help=f"Write the stems as {formats}, or e.g. mp3-v0, wav-32f. [default: mp3]",
        ),
    )
    for option in reversed(added):
        command = option(command)
    return command


def asked(chosen: Mapping[str, str | None]) -> tuple[dict[str, str], Options]:
    """Return the chosen `song_options` as metadata of an upload, and read. Raises BadOptions."""
    metadata = {name: value for name, value in chosen.items() if value}
    return metadata, Options.from_metadata(metadata)


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Raise FileExistsError where one of the files is in the folder already: it may be somebody's."""
    for name in names:
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} is already there; --force replaces it")
