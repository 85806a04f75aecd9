"""The REST function and its servers, started once for this folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from stems import tokens
from stems.tokens import Role
from tests.tracks_stack import Stack, running


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("tracks")) as stack:
        yield stack


@pytest.fixture
def empty(stack: Stack) -> Stack:
    """The stack without a track."""
    stack.clear()
    return stack


@dataclass(frozen=True, slots=True)
class Guarded:
    """A function that wants tokens, and one of each role."""

    stack: Stack
    tokens: Mapping[str, str]

    def bearer(self, role: str) -> dict[str, str]:
        """Return the header of a role's token; none for the role `none`."""
        return {} if role == "none" else {"Authorization": f"Bearer {self.tokens[role]}"}


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    made = {role.word: tokens.new(f"the-{role.word}er", role) for role in Role}
    file = folder / "tokens"
    file.write_text("# who may what\n" + "\n".join(token.line for _, token in made.values()) + "\n")
    sites = "https://player.example, http://localhost:3000"
    with running(folder, STEMS_TOKENS_FILE=str(file), STEMS_CORS_ORIGINS=sites, STEMS_RATE_PER_S="0") as stack:
        yield Guarded(stack, {role: secret for role, (secret, _) in made.items()})
