"""The page where tokens are wanted: it asks once, and everything that a browser loads by itself goes along."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from stems import tokens
from stems.tokens import Role
from tests.browser import tab
from tests.tracks_stack import SONG, running


@pytest.fixture
def secret(tmp_path: Path) -> str:
    secret, token = tokens.new("ann", Role.WRITE)
    (tmp_path / "tokens").write_text(token.line)
    return secret


def test_the_page_asks_for_a_token_once(browser: Browser, secret: str, tmp_path: Path) -> None:
    with running(tmp_path, STEMS_TOKENS_FILE=str(tmp_path / "tokens")) as stack:
        stack.index.add(stack.put(1, name="Private.mp3", vocals_mp3=SONG))
        with tab(browser, stack.url) as page:
            page.goto("/")
            field = page.get_by_label("Your token")
            field.fill("stems_wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text("not known")
            expect(page.get_by_text("Private")).to_have_count(0)
            field.fill(secret)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_text("Private").first).to_be_visible()
            expect(field).to_have_count(0)
            kept = page.evaluate("document.cookie + JSON.stringify([{...localStorage}, {...sessionStorage}])")
            assert secret not in kept
            page.reload()
            expect(page.get_by_text("Private").first).to_be_visible()
            expect(page.locator("html")).to_have_attribute("data-live", "live")
            with page.expect_download() as download:
                page.locator(".library a[download]").first.click()
            assert download.value.failure() is None
