"""The page in the system's Chromium, on a function whose tracks are put in the bucket by hand."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium, tab
from tests.tracks_stack import Stack, running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("page")) as stack:
        yield stack


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
