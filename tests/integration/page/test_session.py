"""The page where tokens are wanted: it asks once, and everything that a browser loads by itself goes along."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from stems import naming, tokens
from stems.tokens import Role
from tests.browser import put_song, tab, tone
from tests.integration.page.songs import queued
from tests.tracks_stack import SONG, running

UPLOAD, AGAIN, REMOVE = "Drop songs here", "Separate again with other options", "Remove Private"
CANCEL, RETRY = "Dismiss Broken.mp3", "Retry Broken.mp3"
MAY: dict[Role, set[str]] = {
    Role.READ: set(),
    Role.WRITE: {UPLOAD, AGAIN, CANCEL, RETRY},
    Role.ADMIN: {UPLOAD, AGAIN, CANCEL, RETRY, REMOVE},
}


@pytest.fixture
def secrets(tmp_path: Path) -> dict[Role, str]:
    made = {role: tokens.new(role.word, role) for role in Role}
    (tmp_path / "tokens").write_text("\n".join(token.line for _, token in made.values()))
    return {role: secret for role, (secret, _) in made.items()}


@pytest.fixture
def secret(secrets: dict[Role, str]) -> str:
    return secrets[Role.WRITE]


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
            page.get_by_role("button", name="Sign out").click()
            expect(field).to_be_visible()
            expect(page.get_by_text("Private")).to_have_count(0)
            assert page.context.cookies() == []
            page.reload()
            expect(field).to_be_visible()


def test_who_needs_no_token_has_nothing_to_sign_out_of(page: Page) -> None:
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("data-role", "admin")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)


def test_what_a_token_may_not_do_is_not_shown(browser: Browser, secrets: dict[Role, str], tmp_path: Path) -> None:
    with running(tmp_path, STEMS_TOKENS_FILE=str(tmp_path / "tokens")) as stack:
        track = put_song(stack, "Private.mp3", {"vocals": tone(440, 1)})
        stack.redis.zadd(naming.DEAD, {queued(stack, "Broken.mp3", "failed", error="no song", attempts=1): 1})
        for role, may in MAY.items():
            with tab(browser, stack.url) as page:
                page.goto("/")
                page.get_by_label("Your token").fill(secrets[role])
                page.get_by_role("button", name="Sign in").click()
                expect(page.locator("html")).to_have_attribute("data-role", role.word)
                expect(page.get_by_text("Failed: no song")).to_be_visible()
                expect(page.get_by_text("Private").first).to_be_visible()
                wanted = {name: name in may for name in (UPLOAD, REMOVE, CANCEL, RETRY)}
                assert {name: _is_shown(page, name) for name in wanted} == wanted
                page.goto(f"/#song={track.songhash}")
                expect(page.get_by_role("link", name="All as ZIP")).to_be_visible()
                wanted = {name: name in may for name in (AGAIN, REMOVE)}
                assert {name: _is_shown(page, name) for name in wanted} == wanted
        with tab(browser, stack.url) as page:  # dropping works everywhere on the page
            page.goto("/")
            page.get_by_label("Your token").fill(secrets[Role.READ])
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("html")).to_have_attribute("data-role", "read")
            page.evaluate(
                """() => {
                  const dataTransfer = new DataTransfer();
                  dataTransfer.items.add(new File(["x"], "dropped.mp3"));
                  dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
                }"""
            )
            expect(page.get_by_text("it may not upload songs")).to_be_visible()
            expect(page.get_by_text("dropped.mp3")).to_have_count(0)


def _is_shown(page: Page, name: str) -> bool:
    kind = page.get_by_role("heading" if name == UPLOAD else "button", name=name, exact=True)
    return kind.is_visible()
