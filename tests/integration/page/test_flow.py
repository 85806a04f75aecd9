"""The whole way in a browser: dropped, uploaded, separated, played, muted, downloaded, removed; and what goes wrong."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser import recorded, tab
from tests.pipeline import Pipeline, song, wait_for

# What the rows in progress have said, one after the other.
_NOTE = """() => {
  window.said = [];
  const note = () => document.querySelectorAll(".queue .row").forEach((row) => {
    const bar = row.querySelector("progress");
    const share = bar.hidden || !bar.hasAttribute("value") ? null : bar.value;
    window.said.push([row.dataset.state, row.querySelector(".row-status").textContent, share]);
  });
  const options = { subtree: true, childList: true, attributes: true, characterData: true };
  new MutationObserver(note).observe(document.querySelector(".queue"), options);
}"""

_DROP = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
  }
  const event = { dataTransfer: transfer, bubbles: true, cancelable: true };
  const target = document.querySelector(".drop");
  for (const kind of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(kind, event));
}"""


def drop(page: Page, *paths: Path) -> None:
    page.evaluate(_DROP, [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths])


@pytest.fixture
def page(browser: Browser, pipeline: Pipeline) -> Iterator[Page]:
    with tab(browser, pipeline.stack.tracks_url, bypass_csp=True) as page:
        yield page


def test_a_dropped_song_is_separated_played_and_downloaded(page: Page, pipeline: Pipeline, tmp_path: Path) -> None:
    good = song(tmp_path / "Dropped song.wav", seed=70, duration_s=6)
    bad = tmp_path / "Dropped notes.mp3"
    bad.write_text("no music at all " * 100)
    posted: list[Request] = []
    page.on("request", lambda request: posted.append(request) if request.method == "POST" else None)
    page.goto("/")
    page.evaluate(_NOTE)
    # Slow enough for progress to be seen.
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 500_000}
    network.send("Network.emulateNetworkConditions", slow)
    drop(page, good, bad)

    row = page.locator(".library .row", has_text="Dropped song")
    expect(row).to_be_visible(timeout=60_000)
    said = page.evaluate("() => window.said")
    shares = {share for state, _, share in said if state == "sending"}
    assert any(0 < share < 1 for share in shares if share is not None), said
    assert any("Uploading" in text for _, text, _ in said)
    assert any(state in {"waiting", "running"} for state, _, _ in said)
    # The songs went to the storage, and only the question for a form to this server.
    storage = urlsplit(pipeline.stack.s3_url).port
    assert [urlsplit(request.url).port for request in posted].count(storage) == 2
    assert all("/v1/uploads" in request.url for request in posted if urlsplit(request.url).port != storage)

    failed = page.locator(".queue .row", has_text="Dropped notes")
    expect(failed).to_have_attribute("data-state", "failed")
    expect(failed).to_contain_text("Failed: ")
    page.evaluate("() => (window.said = [])")
    failed.get_by_role("button", name="Retry").click()
    page.wait_for_function("() => window.said.some(([state]) => state === 'waiting' || state === 'running')")
    expect(failed).to_have_attribute("data-state", "failed")
    failed.get_by_role("button", name="Dismiss").click()
    expect(failed).to_have_count(0)
    assert all(job["name"] != "Dropped notes.mp3" for job in pipeline.queue()["failed"]["jobs"])

    row.get_by_role("link", name=re.compile("^Dropped song")).click()
    page.get_by_role("button", name="Solo Vocals").click()
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("data-state", "playing")
    with recorded(page) as alone:
        page.wait_for_timeout(800)
    page.get_by_role("button", name="Mute Vocals").click()
    page.wait_for_timeout(400)
    with recorded(page) as muted:
        page.wait_for_timeout(500)
    assert np.abs(alone[0]).max() > 1e-4
    assert np.abs(muted[0]).max() == 0

    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("^Download Vocals as MP3")).click()
    address = urlsplit(download.value.url).path
    assert download.value.suggested_filename.startswith("Dropped song")
    assert download.value.path().read_bytes() == pipeline.download(address)
    with page.expect_download() as download:
        page.get_by_role("link", name="All as ZIP").click()
    assert download.value.path().read_bytes().startswith(b"PK")

    page.get_by_role("button", name="Remove Dropped song").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Library")).to_be_visible()
    expect(page.locator(".library .row", has_text="Dropped song")).to_have_count(0)
    assert pipeline.get(address.rsplit("/", 1)[0])["status"] == 404


def test_a_song_that_runs_can_be_cancelled(page: Page, pipeline: Pipeline, tmp_path: Path) -> None:
    page.goto("/")
    page.locator("#files").set_input_files(song(tmp_path / "Too long.wav", seed=71, duration_s=60))
    row = page.locator(".queue .row", has_text="Too long")
    expect(row).to_have_attribute("data-state", "running", timeout=60_000)
    row.get_by_role("button", name="Cancel Too long").click()
    expect(row).to_have_count(0)
    wait_for("the worker to be free", lambda: pipeline.queue()["running"]["count"] == 0)
    assert all(track["name"] != "Too long.wav" for track in pipeline.get("/v1/tracks")["tracks"])


def test_without_events_the_page_asks(page: Page, pipeline: Pipeline, tmp_path: Path) -> None:
    page.route("**/v1/events", lambda route: route.abort())
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("data-live", "polling")
    pipeline.put(song(tmp_path / "a.wav", seed=72, duration_s=2), "Asked for.wav")
    expect(page.locator(".library .row", has_text="Asked for")).to_be_visible(timeout=60_000)


def test_a_song_becomes_what_the_page_says(page: Page, pipeline: Pipeline, tmp_path: Path) -> None:
    page.goto("/")
    page.get_by_role("checkbox", name="Vocals", exact=True).check()
    page.get_by_role("checkbox", name="FLAC").check()
    page.get_by_label("Quality of FLAC").select_option("16 bit")
    page.get_by_role("checkbox", name="MP3").uncheck()
    page.reload()  # it is remembered
    expect(page.get_by_label("Quality of FLAC")).to_have_value("16")
    page.locator("#files").set_input_files(song(tmp_path / "As asked.wav", seed=75, duration_s=1))
    page.locator(".library .row", has_text="As asked").get_by_role("link", name=re.compile("^As asked")).click()
    link = page.get_by_role("link", name=re.compile(r"^Download Vocals as FLAC \(16 bit\)"))
    expect(link).to_be_visible()
    expect(page.locator(".strip")).to_have_count(1)
    assert pipeline.download(link.get_attribute("href") or "").startswith(b"fLaC")
    (shown,) = [track for track in pipeline.get("/v1/tracks?q=as%20asked")["tracks"]]
    assert shown["options"] == {"stems": ["vocals"], "format": ["flac-16"]}


def test_search_goes_by_the_beginning_of_a_name(page: Page, pipeline: Pipeline, tmp_path: Path) -> None:
    for seed, name in ((73, "Alpha.wav"), (74, "Beta.wav")):
        pipeline.done(name, pipeline.put(song(tmp_path / name, seed=seed, duration_s=2), name))
    page.goto("/")
    rows = page.locator(".library .row")
    expect(rows.filter(has_text="Alpha")).to_be_visible()
    page.get_by_role("searchbox").fill("alp")
    expect(rows.filter(has_text="Beta")).to_have_count(0)
    expect(rows.filter(has_text="Alpha")).to_be_visible()
    page.get_by_role("searchbox").fill("zzz")
    expect(page.get_by_text("Nothing is called “zzz…”")).to_be_visible()
