"""What shows that something is going on: on stderr, only in a terminal, and gone when it is done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from stems.cli import terminal

_ERASE_LINE = "\r\033[2K"
_ERASE_LINE_ABOVE = "\033[1A\033[2K"
_STEPS = 1000


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show a line on stderr while the block runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    click.secho(terminal.plain(text), dim=True, nl=False, err=True)
    try:
        yield
    finally:
        click.echo(_ERASE_LINE, nl=False, err=True)


@contextmanager
def bar(label: str) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr while the block runs; it is told the fraction done, and the seconds left if they are known:
    else they are guessed from the fraction. Nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda fraction, left_s=None: None
        return
    full, empty = ("━", "─") if terminal.can_show("━─") else ("#", "-")
    try:
        with click.progressbar(
            length=_STEPS,
            label=terminal.fit(terminal.plain(label), 32),
            fill_char=full,
            empty_char=empty,
            bar_template="%(label)s  %(bar)s  %(info)s",
            file=sys.stderr,
        ) as shown:

            def tell(fraction: float, left_s: float | None = None) -> None:
                if left_s is not None:
                    shown.show_eta = False
                    shown.item_show_func = lambda left: None if left is None else f"{terminal.took(left)} left"
                shown.update(max(0, int(fraction * _STEPS) - shown.pos), None if left_s is None else round(left_s))

            yield tell
    finally:
        click.echo(_ERASE_LINE_ABOVE, nl=False, err=True)
