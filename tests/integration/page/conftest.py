"""The page in the system's Chromium, on a function whose tracks are put in the bucket by hand."""

from collections.abc import Iterator
from functools import partial

import pytest
from minio.error import S3Error
from playwright.sync_api import Browser, Page

from tests.browser import chromium, tab
from tests.servers import until
from tests.tracks_stack import Stack


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("page"))
    try:
        for name in ("minio", "redis"):
            stack.start(name)
        for bucket in ("output", "queue"):
            until(partial(_made, stack, bucket))
        stack.start("tracks")
        yield stack
        assert "unforeseen error" not in (stack.folder / "tracks.log").read_text()
    finally:
        for name in list(stack.programs):
            stack.kill(name)
        stack.redis.close()
        stack.http.clear()


def _made(stack: Stack, bucket: str) -> bool:
    """Make a bucket; MinIO says that it is ready a moment before it is."""
    try:
        stack.s3.make_bucket(bucket)
    except S3Error as error:
        if error.code != "XMinioServerNotInitialized":
            raise
        return False
    return True


@pytest.fixture
def empty(stack: Stack) -> Stack:
    stack.clear()
    return stack


@pytest.fixture
def url(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.ports['tracks']}"


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A tab of a wide screen that prefers dark."""
    with tab(browser, url, viewport={"width": 1280, "height": 860}, color_scheme="dark") as page:
        yield page
