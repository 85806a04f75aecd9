"""What is heard: stems in step to the sample, mute and solo, seams, seeking, loops, and the rendered mix."""

import io
import wave
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import RATE_HZ, Samples, level_db, put_song, recorded, tab, tone
from tests.pipeline import samples as decoded
from tests.tracks_stack import Stack

LOUD_DB, SILENT_DB = -35, -70
TONES_HZ = {"vocals": 440.0, "drums": 1000.0, "bass": 110.0}
STEMS = {stem: tone(frequency_hz, 14) for stem, frequency_hz in TONES_HZ.items()}


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with tab(browser, url, bypass_csp=True) as page:
        yield page


def noise(duration_s: float, level: float = 0.2) -> Samples:
    return level * np.random.default_rng(7).standard_normal((round(duration_s * RATE_HZ), 2)).clip(-3, 3) / 3


def play(page: Page) -> None:
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("data-state", "playing")


def heard(page: Page, frequency_hz: float, is_heard: bool) -> None:
    """Wait until a tone is in what leaves the audio graph, or not."""
    js = """([hz, loud, silent, isHeard]) => {
      const { analyser, context } = window.ears;
      const bins = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(bins);
      const at = Math.round((hz * analyser.fftSize) / context.sampleRate);
      const level = Math.max(...bins.slice(at - 2, at + 3));
      return isHeard ? level > loud : level < silent;
    }"""
    page.wait_for_function(js, arg=[frequency_hz, LOUD_DB, SILENT_DB, is_heard], timeout=30_000)


def test_mute_and_solo_take_a_stem_out_of_the_sound(empty: Stack, page: Page) -> None:
    song = put_song(empty, "Tones.mp3", STEMS)
    page.goto(f"/#song={song.songhash}&loop=0-14")  # however long the machine takes
    play(page)
    for frequency_hz in TONES_HZ.values():
        heard(page, frequency_hz, True)
    page.get_by_role("button", name="Mute Vocals").click()
    heard(page, TONES_HZ["vocals"], False)
    heard(page, TONES_HZ["bass"], True)
    page.get_by_role("button", name="Mute Vocals").click()
    page.get_by_role("button", name="Solo Drums").click()
    heard(page, TONES_HZ["vocals"], False)
    heard(page, TONES_HZ["bass"], False)
    heard(page, TONES_HZ["drums"], True)
    before = level_db(page, TONES_HZ["drums"])
    page.get_by_role("slider", name="Volume of Drums").fill("50")  # a quarter of the gain
    page.wait_for_timeout(700)
    assert level_db(page, TONES_HZ["drums"]) == pytest.approx(before - 12.04, abs=0.2)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()


@pytest.mark.parametrize("format", ["mp3", "flac"])
def test_stems_are_in_step_to_the_sample(empty: Stack, page: Page, format: str) -> None:
    """Two stems that cancel each other are silent only as long as not one sample is out of step."""
    sound = noise(14)
    song = put_song(empty, "Opposites.mp3", {"vocals": sound, "other": -sound}, [format])
    page.goto(f"/#song={song.songhash}&loop=5-13&at=5")  # the first seam comes after a second
    play(page)
    page.wait_for_timeout(300)
    with recorded(page) as both:
        page.wait_for_timeout(1200)
        page.get_by_role("slider", name="Position").fill("11.2")
        page.wait_for_timeout(800)
    page.get_by_role("button", name="Mute Other").click()
    page.wait_for_timeout(300)
    with recorded(page) as one:
        page.wait_for_timeout(500)
    assert len(both[0]) > RATE_HZ
    assert np.abs(one[0]).max() > 0.1
    # An encoder need not treat x and -x alike to the last bit; a stem that is late by one sample gives > 0.1.
    assert np.abs(both[0]).max() < (0.02 if format == "mp3" else 1e-6)


def test_seams_and_loops_are_without_a_gap(empty: Stack, page: Page) -> None:
    # The loop is a whole number of periods, so that a tone goes on over it as if nothing was.
    song = put_song(empty, "Tone.wav", {"other": tone(441, 14, 0.5)}, ["flac"])
    page.goto(f"/#song={song.songhash}&loop=5.4-6.4&at=5.4")  # over a seam at 5.9 s
    play(page)
    # Once around, after which all of the loop is decoded: a window that is late is a gap, by design.
    page.wait_for_function("() => window.ears.context.currentTime > 1.5")
    with recorded(page) as found:
        page.wait_for_timeout(1800)
    samples = found[0][:, 0]
    assert len(samples) > 1.1 * RATE_HZ  # both seams are among them
    # A sine obeys x[n+1] + x[n-1] = 2 cos(w) x[n]; where a sample is missing or doubled, it does not.
    error = samples[2:] + samples[:-2] - 2 * np.cos(2 * np.pi * 441 / RATE_HZ) * samples[1:-1]
    assert np.abs(samples).max() > 0.45
    assert np.abs(error).max() < 1e-4


@pytest.mark.parametrize("format", ["mp3", "mp3-128", "mp3-v4", "flac", "flac-16", "wav", "wav-16", "wav-32f"])
def test_the_rendered_mix_is_the_sum_of_the_stems(empty: Stack, page: Page, format: str) -> None:
    stems = {"vocals": noise(8), "drums": tone(1000, 8), "bass": tone(110, 8)}  # two windows
    song = put_song(empty, "Song.mp3", stems, [format])
    page.goto(f"/#song={song.songhash}&mix=vocals-50~bass-100m")
    with page.expect_download() as download:
        page.get_by_role("button", name="Mix as WAV").click()
    assert download.value.suggested_filename == "Song - mix.wav"
    with wave.open(str(download.value.path())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 2, 3)
        assert file.getnframes() == len(stems["vocals"])
    mixed = decoded(download.value.path().read_bytes())
    parts = {stem.stem: decoded(_stem(empty, stem.object)) for stem in song.stems}
    wanted = 0.25 * parts["vocals"] + parts["drums"]
    # Windows joined without a sample too many, too few, or wrong. Chromium takes 32767 of 16 bits for 1, ffmpeg 32768.
    assert np.abs(mixed - wanted).max() < (1.6e-5 if format == "flac-16" else 2e-6)


def test_a_region_is_rendered_when_it_is_looped(empty: Stack, page: Page) -> None:
    song = put_song(empty, "Song.mp3", {"other": tone(1000, 14)}, ["wav"])
    page.goto(f"/#song={song.songhash}&loop=5.5-7.25")
    with page.expect_download() as download:
        page.get_by_role("button", name="Loop as WAV").click()
    mixed = decoded(download.value.path().read_bytes())
    wanted = decoded(_stem(empty, song.stems[0].object))[round(5.5 * RATE_HZ) : round(7.25 * RATE_HZ)]
    assert np.abs(mixed - wanted).max() < 2e-6


# Tells whether bars stand in the second half of the first waveform and none in the first.
_SECOND_HALF = """() => {
  const canvas = document.querySelector("canvas.rest");
  if (!canvas) return false;
  const context = canvas.getContext("2d");
  const lit = (share) => context.getImageData(Math.floor(share * canvas.width), 0, 3, canvas.height).data
    .filter((value, at) => at % 4 === 3 && value).length / 3;
  return lit(0.6) > 0.5 * canvas.height && lit(0.2) < 0.1 * canvas.height;
}"""


def test_waveforms_come_from_what_was_decoded(empty: Stack, page: Page) -> None:
    song = put_song(empty, "Late.mp3", {"other": np.concatenate([tone(200, 7, 0.0), tone(200, 7, 0.8)])})
    page.goto(f"/#song={song.songhash}")
    page.wait_for_function(_SECOND_HALF)


def test_waveforms_that_are_there_are_fetched_and_nothing_else(empty: Stack, page: Page) -> None:
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url.rsplit("/", 1)[1]))
    peaks = {"other": [0] * 500 + [250] * 500}
    song = put_song(empty, "Drawn.mp3", {"other": tone(200, 14)}, peaks=peaks)
    page.goto(f"/#song={song.songhash}")
    page.wait_for_function(_SECOND_HALF)
    page.wait_for_timeout(500)
    assert fetched.count("peaks.json") == 1
    assert fetched.count("other.mp3") == 1  # its head


def _stem(stack: Stack, name: str) -> bytes:
    answer = stack.s3.get_object("output", name)
    body = io.BytesIO(answer.read())
    answer.close()
    return body.getvalue()
