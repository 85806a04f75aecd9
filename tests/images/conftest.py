"""Tests of the container images; they run only when asked for: `make test-images`."""

from collections.abc import Iterator

import pytest

from stems_local.programs import Programs
from tests.containers import ContainerStack
from tests.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The pipeline whose relay and functions are containers; MinIO and Redis are processes."""
    # Containers listen on all addresses; compose.yaml says the same.
    stack = ContainerStack(tmp_path_factory.mktemp("images"), programs, {"STEMS_TOKENS_FILE": "none"})
    try:
        stack.start()
        pipeline = Pipeline(stack)
        yield pipeline
        pipeline.close()
    finally:
        stack.stop()
