"""The servers around the relay, started once for this folder; each test finds them as if new."""

from collections.abc import Iterator

import pytest

from tests.relay_stack import Sink, Stack


@pytest.fixture(scope="package")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("relay"))
    try:
        stack.configure("FAST")
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(services: Stack) -> Iterator[Stack]:
    try:
        yield services
    finally:
        services.reset()


@pytest.fixture
def sink(stack: Stack) -> Sink:
    return stack.sink
