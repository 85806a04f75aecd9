"""The REST function and its servers, started once for this folder."""

from collections.abc import Iterator

import pytest

from tests.tracks_stack import Stack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("tracks"))
    try:
        for name in ("minio", "redis"):
            stack.start(name)
        for bucket in ("output", "queue"):
            stack.s3.make_bucket(bucket)
        stack.start("tracks")
        yield stack
        assert "unforeseen error" not in (stack.folder / "tracks.log").read_text()
    finally:
        for name in list(stack.programs):
            stack.kill(name)
        stack.redis.close()
        stack.http.clear()


@pytest.fixture
def empty(stack: Stack) -> Stack:
    """The stack without a track."""
    stack.clear()
    return stack
