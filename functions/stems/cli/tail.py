"""`stems logs`: the newest log lines of all parts, from the Redis list `logging`."""

import re
import time
from typing import Any

import click

from stems import naming
from stems.cli import shell, terminal
from stems.errors import StateUnavailable

_POLL_S = 0.5
_LINE = re.compile(r"(?P<time>\d\d:\d\d:\d\d) (?P<component>\S+ +)(?P<level>[A-Z]+ )?(?P<rest>.*)", re.DOTALL)
_COLOURS = {"WARNING ": "yellow", "ERROR ": "red", "CRITICAL ": "red"}


@click.command()
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    metavar="N",
    help="Show so many lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come, until Ctrl-C.")
def logs(count: int, follow: bool) -> None:
    """Show what all parts logged, the newest lines last.

    \b
    Example:
      stems logs -n 100
      stems logs -f
    """
    settings = shell.settings()
    with shell.needs("redis", "client"):
        from stems import jobs
    client: Any = jobs.connect(settings)

    def tail() -> list[str]:
        """Return the whole list, each time: neither length nor last line of a full one tell that nothing came."""
        told = False
        while True:
            try:
                with jobs.translated():
                    lines: list[str] = client.lrange(naming.LOG_TAIL, 0, -1)
                    return lines
            except StateUnavailable as error:
                if not follow:
                    raise
                if not told:
                    terminal.warn(f"{error}; waiting for it")
                told = True
                time.sleep(_POLL_S)

    seen = tail()
    for line in seen[-count:] if count else ():
        _show(line)
    while follow:
        time.sleep(_POLL_S)
        now = tail()
        for line in fresh(seen, now):
            _show(line)
        seen = now


def fresh(seen: list[str], now: list[str]) -> list[str]:
    """Return the lines of `now` that came since `seen`: the list grows at its end and is trimmed at its beginning."""
    for gone in range(len(seen) + 1):
        kept = len(seen) - gone
        if seen[gone:] == now[:kept]:
            return now[kept:]
    return now


def _show(line: str) -> None:
    lines = [terminal.plain(part) for part in line.split("\n")]
    match = _LINE.fullmatch(lines[0])
    if match:
        level = match["level"] or ""
        rest = click.style(level + match["rest"], fg=_COLOURS.get(level))
        lines[0] = click.style(f"{match['time']} ", dim=True) + click.style(match["component"], fg="cyan") + rest
    click.echo("\n".join(lines))
