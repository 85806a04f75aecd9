"""`stems tracks` and `stems status`: what the service has separated, and what stands in line."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from stems import printable
from stems.cli import shell, terminal

if TYPE_CHECKING:
    from stems.cli.rest import Rest

_SHORT = 8  # of a hash or an id: enough to be told apart; any unique beginning is understood
_SHOWN = 20  # of each part of the queue


def connect() -> "Rest":
    """Return a client of the REST function of the settings."""
    settings = shell.settings()
    with shell.needs("httpx2", "client"):
        from stems.cli.rest import Rest
    rest = Rest(settings.tracks_url, settings.token)
    click.get_current_context().call_on_close(rest.close)
    return rest


@click.command()
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="Show so many, the newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tracks(limit: int, as_json: bool) -> None:
    """List the songs that are separated, newest first.

    \b
    Example:
      stems tracks
      stems tracks --limit 1000 --json
    """
    found = list(connect().tracks(limit))
    if as_json:
        click.echo(_json(found))
    elif not found:
        click.echo("no tracks yet: `stems submit song.mp3` makes one", err=True)
    else:
        head = ("HASH", "SONG", "LENGTH", "STEMS", "FORMAT", "MODEL", "WHEN")
        terminal.table(head, [_track(each) for each in found], flexible=1)


def _track(track: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        track["songhash"][:_SHORT],
        track["name"],
        terminal.duration(track["duration_s"]),
        " ".join(dict.fromkeys(stem["stem"] for stem in track["stems"])),
        " ".join(dict.fromkeys(stem["format"] for stem in track["stems"])),
        track["model"]["name"],
        _when(track["created"]),
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show what is being separated, what waits and what failed.

    \b
    Example:
      stems status
      watch -n 1 stems status
    """
    queue = connect().queue()
    if as_json:
        click.echo(_json(queue))
        return
    counts = {state: int(queue[state]["count"]) for state in ("running", "waiting", "failed")}
    colours = {"running": "green", "waiting": "cyan", "failed": "red"}
    words = [click.style(f"{count} {state}", fg=colours[state] if count else None) for state, count in counts.items()]
    click.echo("  ".join(words))
    _section(queue["running"], ("PROGRESS", "SONG", "UPLOADED"), _running)
    _section(queue["waiting"], ("UPLOADED", "SONG", "TRIES"), _waiting)
    _section(queue["failed"], ("ID", "SONG", "TRIES", "UPLOADED"), _failed)
    if counts["failed"]:
        click.secho("\nstems dead show ID · stems dead retry ID · stems dead drop ID", dim=True)


def _section(part: Mapping[str, Any], head: tuple[str, ...], row: Any) -> None:
    """Print one part of the queue; each list is cut, its count is not."""
    jobs = part["jobs"][:_SHOWN]
    if not jobs:
        return
    click.echo()
    reasons = [job["error"] or "" for job in jobs]
    terminal.table(head, [row(job) for job in jobs], flexible=1, below=reasons)
    if part["count"] > len(jobs):
        click.secho(f"… and {part['count'] - len(jobs)} more", dim=True)


def _running(job: Mapping[str, Any]) -> tuple[str, ...]:
    progress = float(job["progress"])
    return f"{terminal.shares(progress)} {progress:4.0%}", _song(job), _when(job["uploaded"])


def _waiting(job: Mapping[str, Any]) -> tuple[str, ...]:
    return _when(job["uploaded"]), _song(job), str(job["attempts"] or "")


def _failed(job: Mapping[str, Any]) -> tuple[str, ...]:
    return job["id"][:_SHORT], _song(job), str(job["attempts"]), _when(job["uploaded"])


def _song(job: Mapping[str, Any]) -> str:
    return str(job["key"] or job["name"])


def _when(stamp: str | None) -> str:
    return terminal.ago(datetime.fromisoformat(stamp).timestamp()) if stamp else ""


def _json(data: object) -> str:
    return printable.as_json(data, indent=2)
