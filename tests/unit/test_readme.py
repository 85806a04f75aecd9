"""README.md lists the settings and commands that exist, no more and no fewer."""

import re
from pathlib import Path

import click
import pytest

from stems.cli import main
from stems.config import table

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    listed = re.findall(r"^\| `([A-Z0-9_]+)` \| `?([^`|]*?)`? \|", README, re.MULTILINE)
    assert [(name, default.strip()) for name, default in listed] == table()


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_command_is_in_the_readme(name: str) -> None:
    assert f"`stems {name}" in README
    command = main.commands[name]
    if isinstance(command, click.Group):
        for sub in command.commands:
            assert re.search(rf"`stems {name} [^|]*\b{sub}\b|`stems {name}[^|]*`{sub}`", README), f"stems {name} {sub}"
