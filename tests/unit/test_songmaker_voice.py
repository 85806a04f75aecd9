"""The sung voice: pitch, rests, consonants, and that singers differ."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.songmaker import espeak
from tests.data.songmaker.phonemes import PHONES, RATE_HZ, parsed
from tests.data.songmaker.voice import Singer, Syllable, lyrics, random_singer, sing
from tests.programs import need

SECONDS = 3
PITCHES = (57, 60, 64)


def singer(engine: str, seed: int = 5) -> Singer:
    """Return a singer who holds a note: no vibrato, no roughness, not a whisper."""
    one = random_singer(np.random.default_rng(seed))
    larynx = replace(one.larynx, vibrato_cents=0, speech=0, rasp=0, growl=0, fall_chance=0)
    return replace(one, engine=engine, voicing=1, larynx=larynx, intake=0, espeak_voice="en+m3", break_pitch=90)


def song(text: str = "l aa") -> list[Syllable]:
    """Return three notes that touch each other, after half a second's rest."""
    return [Syllable(0.5 + 0.7 * place, 0.68, pitch, text, 0.8) for place, pitch in enumerate(PITCHES)]


def sung(one: Singer, text: str = "l aa", seed: int = 1) -> NDArray[np.float32]:
    """Return the song's samples."""
    return sing(song(text), one, SECONDS * RATE_HZ, np.random.default_rng(seed))


def cents_off(sound: NDArray[np.float32], note: float) -> float:
    """Return how far the sound's period is from the note's, by autocorrelation within 5 semitones, in cents."""
    size = 4 * len(sound)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size)) ** 2
    finer = 16
    same = np.fft.irfft(power, finer * size)  # interpolates lags
    period = finer * RATE_HZ / (440 * 2 ** ((note - 69) / 12))
    lags = np.arange(int(period / 2 ** (5 / 12)), int(period * 2 ** (5 / 12)))
    return float(1200 * np.log2(lags[np.argmax(same[lags])] / period))


def energy(sound: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    """Return the energy in a band."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    return float(power[(hz >= low_hz) & (hz < high_hz)].sum())


def check_engine(engine: str) -> None:
    """Check the pitch of held notes, the rests, the length and the level."""
    found = []
    for seed in (5, 8):
        track = sung(singer(engine, seed))
        assert track.shape == (SECONDS * RATE_HZ,)
        assert track.dtype == np.float32
        assert np.isfinite(track).all()
        assert float(np.abs(track).max()) == pytest.approx(0.5, abs=1e-3)
        assert not track[: int(0.3 * RATE_HZ)].any()
        assert not track[int(2.85 * RATE_HZ) :].any()
        for one in song():
            middle = track[int((one.start_s + 0.25) * RATE_HZ) : int((one.start_s + 0.45) * RATE_HZ)]
            found.append(abs(cents_off(middle, one.pitch)))
    assert np.mean(found) < 30


def test_formants_sing_the_melody() -> None:
    check_engine("formants")


def test_espeak_sings_the_melody() -> None:
    need("espeak-ng")
    check_engine("espeak")


@pytest.mark.parametrize("engine", ["formants", "espeak"])
def test_consonants_hiss(engine: str) -> None:
    if engine == "espeak":
        need("espeak-ng")
    track = sung(singer(engine), "s aa")
    before, vowel = (track[int(a * RATE_HZ) : int((a + 0.08) * RATE_HZ)] for a in (0.4, 0.8))
    assert energy(before, 5_000, 16_000) > energy(before, 100, 3_000)
    assert energy(before, 5_000, 16_000) > 3 * energy(vowel, 5_000, 16_000)
    assert energy(before, 10_000, 16_000) > 0


def test_notes_that_touch_are_joined() -> None:
    track = sung(singer("formants"))
    power = np.square(track[int(0.6 * RATE_HZ) : int(2.5 * RATE_HZ)])
    blocks = power[: len(power) // 441 * 441].reshape(-1, 441).mean(axis=1)
    assert blocks.min() > 1e-3 * blocks.max()


def test_same_draws_sing_the_same() -> None:
    one = random_singer(np.random.default_rng(3))
    assert one == random_singer(np.random.default_rng(3))
    one = replace(one, engine="formants")
    np.testing.assert_array_equal(sung(one), sung(one))


def test_singers_differ() -> None:
    drawn = [random_singer(np.random.default_rng(seed)) for seed in range(60)]
    assert {one.engine for one in drawn} == {"formants", "espeak"}
    assert min(one.lowest for one in drawn) < 43
    assert max(one.highest for one in drawn) > 74
    assert all(15 <= one.highest - one.lowest <= 21 for one in drawn)
    bands = np.geomspace(150, 12_000, 13)
    shapes = []
    for seed in (1, 2):
        track = sung(singer("formants", seed))
        levels = np.array([energy(track, low, high) for low, high in zip(bands, bands[1:], strict=False)])
        shapes.append(10 * np.log10(levels / levels.sum()))
    assert np.abs(shapes[0] - shapes[1]).max() > 3


def test_lyrics_are_syllables() -> None:
    text = lyrics(300, np.random.default_rng(0))
    assert len(text) == 300
    assert len(set(text)) > 40
    assert text == lyrics(300, np.random.default_rng(0))
    for one in text:
        onset, vowel, coda = parsed(one)
        assert PHONES[vowel].kind == "vowel"
        assert all(PHONES[name].kind != "vowel" for name in onset + coda)


def test_no_notes_are_silence() -> None:
    assert not sing([], singer("formants"), 100, np.random.default_rng(0)).any()


def test_notes_past_the_end_are_cut() -> None:
    track = sing(song(), singer("formants"), RATE_HZ, np.random.default_rng(0))
    assert track.shape == (RATE_HZ,)
    late = [replace(one, start_s=one.start_s + 5) for one in song()]
    assert not sing(late, singer("formants"), RATE_HZ, np.random.default_rng(0)).any()


def test_bad_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not a syllable: 'la'"):
        sung(singer("formants"), "la")


def test_missing_espeak_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    espeak.syllable.cache_clear()
    monkeypatch.setattr(espeak, "PROGRAM", "espeak-ng-that-is-missing")
    with pytest.raises(FileNotFoundError, match="espeak-ng-that-is-missing is not installed"):
        sung(singer("espeak"))
