"""`stems token`: tokens for the REST function."""

import click

from stems import tokens
from stems.tokens import Role


@click.group()
def token() -> None:
    """Make tokens for the REST function.

    \b
    Example:
      stems token new ann --role write >>tokens
    """


@token.command("new")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([each.word for each in Role]),
    default=Role.READ.word,
    show_default=True,
    help="Allow to look and listen, also to put and cancel songs, or also to remove them.",
)
def new(name: str, role: str) -> None:
    """Make a token, and the line for the file of tokens.

    The line is for the file STEMS_TOKENS_FILE; the token itself is shown on stderr, this once.

    \b
    Example:
      stems token new ann --role write >>tokens
    """
    secret, made = tokens.new(name, Role[role.upper()])
    click.echo(made.line)
    click.echo(f"The token of {name}, shown this once; STEMS_TOKEN takes it:\n{secret}", err=True)
