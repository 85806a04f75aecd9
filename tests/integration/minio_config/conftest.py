"""A MinIO that apply.py has set up, started once for this folder."""

import io
from collections.abc import Iterator

import pytest

from tests.minio_server import Outcome, Server, minio, tags


@pytest.fixture(scope="package")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Outcome]]:
    with minio(tmp_path_factory.mktemp("minio")) as (server, done):
        yield server, done


@pytest.fixture(scope="package")
def server(fresh: tuple[Server, Outcome]) -> Server:
    """A MinIO that has been set up, with an object, its tags and its metadata in each bucket."""
    root = fresh[0].login("root")
    for bucket in ("queue", "output"):
        root.put_object(bucket, "there", io.BytesIO(b"song"), 4, metadata={"stems": "vocals"}, tags=tags())
    return fresh[0]
