"""How the page looks and whom it shuts out: axe-core on every state, keyboard alone, a narrow screen, pictures."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, Page, expect

from stems import naming
from stems.record import Track
from tests.browser import put_song, screenshots, tab
from tests.integration.page.songs import drawn, music, queued
from tests.tracks_stack import Stack

# Rules that test only what WCAG 2.2 AA and good practice ask for; "minor" and "moderate" findings are advice.
SERIOUS = {"serious", "critical"}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
LONG = "A very long name that fits into no line of any telephone and is readable nevertheless (Remastered 2024).wav"
PHONE = {"viewport": {"width": 375, "height": 760}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
MUSIC = music(0, 20)
WIDE = {"viewport": {"width": 1280, "height": 860}}


# The end of the song is drawn, though nobody heard it yet.
_DRAWN = """() => {
  const canvas = document.querySelector('[data-stem="other"] canvas.rest');
  if (!canvas) return false;
  const [from, tall] = [Math.floor(0.9 * canvas.width), canvas.height];
  const { data } = canvas.getContext("2d").getImageData(from, 0, 20, tall);
  return data.filter((value, at) => at % 4 === 3 && value).length > 20 * 0.05 * tall;
}"""


def check(page: Page) -> None:
    """Fail for what axe-core finds to be serious, and for a page that is wider than its window."""
    page.evaluate("() => Promise.allSettled(document.getAnimations().map((one) => one.finished))")
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    wrong = [
        f"{rule['id']}: {node['html'][:150]}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]
    assert not wrong, "\n".join(wrong)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "wider than the window"


def look(page: Page, name: str, *, whole: bool = True) -> None:
    """Check the page and keep a picture of it, or of the window."""
    check(page)
    page.screenshot(path=screenshots() / f"{name}.png", full_page=whole)


@pytest.fixture(params=["dark", "light", "phone"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def screen(browser: Browser, url: str, kind: str) -> Iterator[Page]:
    options = PHONE if kind == "phone" else WIDE
    with tab(browser, url, color_scheme="light" if kind == "light" else "dark", **options) as page:
        yield page


@pytest.fixture(scope="package")
def songs(stack: Stack) -> list[Track]:
    stack.clear()
    names = ["Midnight Train.mp3", "Così fan tutte – Soave sia il vento.flac", LONG, "07 Untitled.m4a"]
    peaks = drawn(MUSIC)
    return [put_song(stack, name, MUSIC, number=number, peaks=peaks) for number, name in enumerate(names)]


@pytest.fixture
def line(stack: Stack, songs: list[Track]) -> Iterator[None]:
    """Songs in line, of every state."""
    for number, name in enumerate(["Lamento.flac", LONG]):
        stack.redis.zadd(naming.WAITING, {queued(stack, name, "waiting"): number})
    stack.redis.zadd(naming.RELAYS, {"relay": 1})
    running = queued(stack, "Blue Morning.mp3", "separating", progress="0.42")
    stack.redis.sadd(naming.delivering_key("relay"), running)
    error = "the file has no audio stream that could be decoded"
    stack.redis.zadd(naming.DEAD, {queued(stack, "holiday.mov", "failed", error=error, attempts=1): 1})
    yield
    stack.redis.delete(naming.WAITING, naming.RELAYS, naming.delivering_key("relay"), naming.DEAD)


def test_the_empty_page(empty: Stack, screen: Page, kind: str) -> None:
    screen.goto("/")
    expect(screen.get_by_text("No songs yet")).to_be_visible()
    look(screen, f"empty-{kind}")


def test_the_first_page(screen: Page, kind: str, line: None) -> None:
    screen.goto("/")
    expect(screen.locator(".library .row")).to_have_count(4)
    expect(screen.locator(".queue .row")).to_have_count(4)
    expect(screen.locator(".queue")).to_contain_text("Failed: the file has no audio stream that could be decoded")
    expect(screen.get_by_role("button", name="Retry holiday.mov")).to_be_visible()
    screen.get_by_role("checkbox", name="FLAC").check()
    expect(screen.get_by_label("Quality of FLAC")).to_be_visible()
    expect(screen.get_by_label("Quality of WAV")).to_be_hidden()
    look(screen, f"home-{kind}")


def test_the_mixer(screen: Page, kind: str, songs: list[Track]) -> None:
    screen.goto(f"/#song={songs[0].songhash}&mix=vocals-70~bass-100m&loop=4-9.5")
    screen.get_by_role("button", name="Play").click()
    expect(screen.get_by_role("button", name="Pause")).to_have_attribute("data-state", "playing")
    screen.wait_for_function(_DRAWN)
    screen.get_by_role("button", name="Pause").click()
    look(screen, f"mixer-{kind}")


def test_the_mixer_of_a_long_name(screen: Page, kind: str, songs: list[Track]) -> None:
    screen.goto(f"/#song={songs[2].songhash}")
    expect(screen.get_by_role("button", name="Play")).to_be_visible()
    look(screen, f"long-name-{kind}")
    screen.get_by_role("button", name="Separate again").click()
    expect(screen.get_by_role("dialog").get_by_role("combobox", name="Quality of MP3")).to_be_visible()
    look(screen, f"again-{kind}", whole=False)


def test_errors(screen: Page, kind: str, url: str) -> None:
    screen.route("**/v1/tracks?*", lambda route: route.fulfill(status=503, json={"detail": "MinIO does not answer"}))
    screen.route("**/v1/queue", lambda route: route.fulfill(status=503, json={"detail": "Redis does not answer"}))
    screen.goto("/")
    expect(screen.get_by_text("The library cannot be shown")).to_be_visible()
    expect(screen.locator("#connection")).to_contain_text("Redis does not answer")
    look(screen, f"error-{kind}")
    screen.goto(f"/#song={'0' * 64}")
    expect(screen.get_by_role("heading", name="This song is not here")).to_be_visible()
    look(screen, f"missing-{kind}")


def test_removal_asks_first(screen: Page, kind: str, songs: list[Track]) -> None:
    screen.goto("/")
    screen.get_by_role("button", name="Remove 07 Untitled").click()
    dialog = screen.get_by_role("dialog", name="Remove this song?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    look(screen, f"remove-{kind}", whole=False)
    screen.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(screen.get_by_role("button", name="Remove 07 Untitled")).to_be_focused()
    expect(screen.locator(".library .row")).to_have_count(4)


def test_the_keyboard_is_enough(page: Page, songs: list[Track]) -> None:
    page.goto("/")
    expect(page.locator(".library .row")).to_have_count(4)
    link = page.get_by_role("link", name=re.compile("^Midnight Train"))
    for _ in range(60):
        page.keyboard.press("Tab")
        if link.evaluate("(element) => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Midnight Train")).to_be_focused()
    position = page.get_by_role("slider", name="Position")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("data-state", "playing")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(position).to_have_attribute("aria-valuetext", "6 seconds of 20 seconds")
    position.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(position).to_have_attribute("aria-valuetext", "6 seconds of 20 seconds")
    page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    expect(page.locator(".loop-text")).to_have_text("0:06 – 0:11")
    page.keyboard.press("2")
    expect(page.locator(".strip").nth(1).get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Shift+Digit1")
    expect(page.locator(".strip").nth(0).get_by_role("button", name="Solo")).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile(r"#song=[0-9a-f]{64}&mix=.*loop=6\.00-11\.00"))
    # The link to the content must not take the song away.
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#view")).to_be_focused()
    expect(page.get_by_role("heading", name="Midnight Train")).to_be_visible()
    # They can be switched off, since they are in the way of speech input.
    page.get_by_text("Keyboard shortcuts").click()
    page.get_by_label("Use these keys").uncheck()
    page.get_by_role("heading", name="Midnight Train").focus()
    page.keyboard.press("2")
    expect(page.locator(".strip").nth(1).get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")


def test_a_link_brings_back_song_mix_and_loop(page: Page, browser: Browser, url: str, songs: list[Track]) -> None:
    page.goto(f"/#song={songs[0].songhash}")
    page.get_by_role("button", name="Mute Drums").click()
    page.get_by_role("slider", name="Volume of Vocals").fill("40")
    lane = page.locator(".lane").first
    box = lane.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    expect(page.locator(".loop-text")).to_have_text("0:05 – 0:10")
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 20)
    expect(page.get_by_role("slider", name="Position")).to_have_attribute("aria-valuetext", "8 seconds of 20 seconds")
    expect(page).to_have_url(re.compile("at=8"))
    with tab(browser, url) as other:
        other.goto(page.url)
        expect(other.get_by_role("button", name="Mute Drums")).to_have_attribute("aria-pressed", "true")
        expect(other.get_by_role("slider", name="Volume of Vocals")).to_have_value("40")
        expect(other.locator(".loop-text")).to_have_text("0:05 – 0:10")
        expect(other.get_by_role("slider", name="Position")).to_have_attribute(
            "aria-valuetext", "8 seconds of 20 seconds"
        )
