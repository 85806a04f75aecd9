"""How things look in a terminal: columns of any script, times, sizes, complaints."""

import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import click

from stems import printable

_NARROWEST = 12
_GAP = "  "


def plain(text: str) -> str:
    """Replace what would upset a terminal or the words beside it: names of files may hold anything."""
    return printable.replaced(" ".join(text.splitlines()), "�")


def width(text: str) -> int:
    """Return the columns that `text` takes: two for a wide character, none for a combining one."""
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, columns: int) -> str:
    """Return `text` cut with an ellipsis, or filled with blanks, to exactly `columns`."""
    if width(text) > columns:
        kept, left = "", columns - 1
        for character in text:
            left -= _columns(character)
            if left < 0:
                break
            kept += character
        text = kept + "…"
    return text + " " * (columns - width(text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int, below: Sequence[str] = ()) -> None:
    """Print rows in columns under `head`, each followed by its text of `below`, wrapped, where there is one.

    The column `flexible` gives way when the terminal is too narrow; into a file or a pipe nothing is cut.
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    columns = [max(map(width, cells)) for cells in zip(head, *rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    others = sum(columns) - columns[flexible] + len(_GAP) * (len(columns) - 1)
    columns[flexible] = max(_NARROWEST, min(columns[flexible], room - others))
    indent = " " * columns[0] + _GAP
    click.secho(_row(head, columns), dim=True)
    for row, text in zip_longest(rows, below, fillvalue=""):
        click.echo(_row(row, columns))
        for line in textwrap.wrap(plain(text), max(_NARROWEST, room - len(indent))):
            click.secho(indent + line, fg="red")


def _row(cells: Iterable[str], columns: Sequence[int]) -> str:
    return _GAP.join(fit(cell, size) for cell, size in zip(cells, columns, strict=True)).rstrip()


def duration(seconds: float) -> str:
    """Return 3:12, or 1:02:03 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def took(seconds: float) -> str:
    """Return 0.8 s, 48 s, or 3:12 min from a minute and a half on."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{duration(seconds)} min"


def size(count: float) -> str:
    """Return a number of bytes with a decimal unit, e.g. 84.1 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def ago(moment_s: float) -> str:
    """Return how long ago a time (seconds since 1970) was, in the largest unit that fits."""
    seconds = max(0.0, time.time() - moment_s)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


def shares(fraction: float, columns: int = 20) -> str:
    """Return a bar of `columns` characters, filled by `fraction`."""
    filled = round(min(max(fraction, 0.0), 1.0) * columns)
    full, empty = ("█", "░") if can_show("█░") else ("#", "-")
    return full * filled + empty * (columns - filled)


def can_show(text: str) -> bool:
    """Tell whether the terminal's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def warn(text: str) -> None:
    """Say something on stderr that people should not overlook."""
    click.secho(f"Warning: {plain(text)}", fg="yellow", err=True)


def complain(text: str) -> None:
    """Say on stderr that one of several things went wrong; the command goes on."""
    click.secho(f"Error: {plain(text)}", fg="red", err=True)
