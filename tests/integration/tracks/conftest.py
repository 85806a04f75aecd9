"""The REST function and its servers, started once for this folder."""

from collections.abc import Iterator

import pytest

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
