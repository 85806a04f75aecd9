"""The maker of songs: scores that make sense, sounds that are what they say, the same song from the same seed."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stems_local.quality import samples
from tests.data.songmaker import effects, fonts, synth
from tests.data.songmaker.compose import Palette, compose
from tests.data.songmaker.harmony import Chord, Key, near, voicing
from tests.data.songmaker.rhythm import Grid, hits
from tests.data.songmaker.score import RATE_HZ, STEMS, Note, Sampled, Score, Synthesized
from tests.programs import CHECKOUT, need_sounds

OWN = Palette(("fluid",), 0.5)
SCORES = [compose(seed, 40.0, OWN) for seed in range(40)]


def test_a_score_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert compose(3, 40.0, OWN) == SCORES[3]
    assert compose(4, 40.0, OWN) != SCORES[3]


@pytest.mark.parametrize("score", SCORES, ids=lambda score: str(score.seed))
def test_everything_is_played_within_the_song_and_can_be_played(score: Score) -> None:
    notes = [note for part in score.parts for note in part.notes]
    assert notes or score.sung
    for note in notes:
        assert 0 <= note.start_s < 40
        assert 0 < note.duration_s < 40
        assert 0 < note.velocity <= 1
        assert 0 <= note.pitch < 128
    for voice in score.sung:
        for syllable in voice.syllables:
            assert 0 <= syllable.start_s < 40
            assert syllable.duration_s > 0
            assert voice.singer.lowest <= syllable.pitch <= voice.singer.highest


def test_a_voice_sings_one_syllable_at_a_time() -> None:
    for score in SCORES:
        for voice in score.sung:
            starts = [syllable.start_s for syllable in voice.syllables]
            assert all(later > earlier for earlier, later in pairwise(starts))


def test_songs_vary() -> None:
    assert len({score.key for score in SCORES}) > 12
    assert max(score.beats_per_minute for score in SCORES) > 1.5 * min(score.beats_per_minute for score in SCORES)
    played = {part.instrument for score in SCORES for part in score.parts}
    assert len(played) > 80
    stems = [{part.stem for part in score.parts} | ({"vocals"} if score.sung else set()) for score in SCORES]
    assert sum(len(each) == 4 for each in stems) > 20
    assert any(len(each) < 4 for each in stems)


def test_keys_chords_and_voicings_are_those_of_the_book() -> None:
    key = Key(7, "major")
    assert key.name == "G major"
    assert key.scale == (7, 9, 11, 0, 2, 4, 6)
    assert key.chord(4, 3) == Chord(2, (2, 6, 9))
    assert near(2, 40) == 38
    assert {pitch % 12 for pitch in voicing(key.chord(0, 3), 60, 5)} == {7, 11, 2}
    assert voicing(key.chord(0, 3), 60, 5) == sorted(voicing(key.chord(0, 3), 60, 5))


def test_swing_delays_the_off_steps_only() -> None:
    grid = Grid(120, 4, 4, 0.2)
    assert [grid.at(step) for step in range(3)] == pytest.approx([0, 0.15, 0.25])
    assert list(hits("X.g", 6)) == [(0, 1.0), (2, 0.35), (3, 1.0), (5, 0.35)]


@pytest.mark.parametrize("kind", ["bass", "pad", "pluck", "lead"])
def test_a_synthesized_note_has_its_pitch(kind: str) -> None:
    for seed in range(6):
        sound = synth.play(Synthesized(kind, seed), [Note(0.1, 1.5, 57, 0.8)], 2 * RATE_HZ)
        assert sound.shape == (2, 2 * RATE_HZ)
        assert sound.dtype == np.float32
        assert not sound[:, : int(0.09 * RATE_HZ)].any()
        part = sound[0, int(0.3 * RATE_HZ) : int(1.3 * RATE_HZ)].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(part * np.hanning(part.size)))
        loudest = spectrum.argmax() * RATE_HZ / part.size
        cents = 1200 * np.log2(loudest / 220)
        harmonics = (0.5, 1, 2, 3, 4, 5, 6, 7, 8, 3.5, 0.41, 1.41, 2.41, 12, 13, 14, 15, 16)
        assert min(abs(cents - 1200 * np.log2(k)) for k in harmonics) < 40


def test_the_drums_of_a_kit_differ() -> None:
    kit = Synthesized("kit", 5)
    kick, hat = (synth.play(kit, [Note(0, 0.2, drum, 1.0)], RATE_HZ)[0] for drum in (36, 42))

    def centre_hz(sound: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float((power * np.fft.rfftfreq(sound.size, 1 / RATE_HZ)).sum() / power.sum())

    assert centre_hz(kick) < 1000 < 4000 < centre_hz(hat)


def test_effects_do_what_they_say() -> None:
    rng = np.random.default_rng(1)
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    sine = np.tile((0.2 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32), (2, 1))
    assert effects.loudness(sine) == pytest.approx(0.2 / np.sqrt(2), rel=1e-3)
    left = effects.place(sine, -1, 1)
    assert np.abs(left[1]).max() < 1e-6 < np.abs(left[0]).max()
    assert effects.loudness(effects.band(sine, 4000, None)) < 0.01
    assert effects.loudness(effects.brighten(sine, 100, 6.02)) == pytest.approx(2 * effects.loudness(sine), rel=0.1)
    loud = np.concatenate([sine, 4 * sine], axis=1)
    gain = effects.gain_curve(loud, -10, 4, 0.1)
    assert gain[-RATE_HZ // 2] < gain[RATE_HZ] <= 1
    click = np.zeros((2, RATE_HZ), np.float32)
    click[:, 0] = 1
    assert np.abs(effects.reverberate(click, rng, 0.5, 0.3)[:, 3000:20000]).max() > 0.001
    echoed = effects.echo(click, 0.25, 0.5, 0.5)
    assert echoed[0, RATE_HZ // 4] == pytest.approx(0.5)
    assert np.abs(effects.soften(5 * sine, 1.0)).max() <= effects.loudness(5 * sine) * 1.001


def test_training_and_test_share_no_soundfont() -> None:
    assert not set(fonts.TRAINING) & set(fonts.TEST)
    assert all("GPL" not in fonts.FONTS[name].licence for name in fonts.TRAINING)


def test_a_missing_soundfont_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = fonts.Font(tmp_path / "gone.sf2", "some-soundfont", "MIT", (0,))
    monkeypatch.setitem(fonts.FONTS, "gone", gone)
    with pytest.raises(FileNotFoundError, match="install the package some-soundfont"):
        fonts.path("gone")


def test_songs_from_the_command_line_are_whole_and_of_the_set(tmp_path: Path) -> None:
    need_sounds()
    command = [sys.executable, "-m", "tests.data.songmaker", "--set", "test", "--songs", "2", "--seconds", "12"]
    done = subprocess.run([*command, str(tmp_path)], check=True, capture_output=True, text=True)
    assert not done.stderr
    songs = sorted(path.name for path in tmp_path.iterdir())
    assert songs == ["2000000", "2000001"]
    for song in songs:
        stems = []
        for stem in STEMS:
            samples, rate_hz = soundfile.read(tmp_path / song / f"{stem}.wav", dtype="int16")
            assert rate_hz == 44100
            assert samples.shape == (12 * 44100, 2)
            stems.append(samples.astype(np.int64))
        assert 10000 < np.abs(sum(stems)).max() < 32768
        about = json.loads((tmp_path / song / "song.json").read_text())
        assert about["seed"] == int(song)
        assert {part.split()[2] for part in about["parts"]} <= {"tim", "sung"}


def test_a_song_is_the_same_whatever_was_made_before_it() -> None:
    need_sounds()
    from tests.data.songmaker.song import make

    palette = Palette(fonts.TEST, 0.0)
    first, _, again = make(7, 8.0, palette), make(8, 8.0, palette), make(7, 8.0, palette)
    assert all(np.array_equal(first.stems[stem], again.stems[stem]) for stem in STEMS)


def test_the_bundled_song_is_made_from_its_seed() -> None:
    need_sounds()
    from tests.data.songmaker import bundle

    made = bundle.song()
    for stem in STEMS:
        true = made.stems[stem].T / 32768
        bundled = samples(CHECKOUT / "tests" / "data" / "song" / f"{stem}.mp3")[: len(true)]
        assert ((bundled - true) ** 2).mean() < 0.1 * (true**2).mean(), stem


def test_sampled_notes_sound_when_they_are_played_and_when_they_are_struck_again() -> None:
    need_sounds()
    from tests.data.songmaker.sampler import Sampler

    sampler = Sampler()
    strings = Sampled("fluid", 48)
    once = sampler.play(strings, [Note(0.5, 1.0, 69, 0.8)], 3 * RATE_HZ)
    assert once.shape == (2, 3 * RATE_HZ)
    assert np.abs(once[:, : RATE_HZ // 2 - 100]).max() < 1e-4 < 1e-2 < np.abs(once[:, RATE_HZ // 2 :]).max()
    # The first is still held when the second begins: it must not end the second.
    twice = sampler.play(strings, [Note(0.0, 1.1, 69, 0.8), Note(1.0, 1.5, 69, 0.8)], 3 * RATE_HZ)
    sampler.close()
    assert (
        np.abs(twice[:, 2 * RATE_HZ : int(2.4 * RATE_HZ)]).max() > 0.3 * np.abs(twice[:, RATE_HZ // 2 : RATE_HZ]).max()
    )
    with pytest.raises(ValueError, match="no program"):
        Sampler().play(Sampled("tim", 1, kit=True), [], 100)
