"""From a seed to four stems: composed, played part by part, mixed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.data.songmaker import mix, synth
from tests.data.songmaker.compose import Palette, compose
from tests.data.songmaker.effects import Sound
from tests.data.songmaker.sampler import Sampler
from tests.data.songmaker.score import RATE_HZ, STEMS, Part, Sampled, Score
from tests.data.songmaker.voice import sing


@dataclass(frozen=True, slots=True)
class Song:
    """A song: its score and its stems, each (2, samples) at 44100 Hz; the mixture is their sum, below full scale."""

    score: Score
    stems: dict[str, NDArray[np.int16]]


def make(seed: int, duration_s: float, palette: Palette) -> Song:
    """Return the song of a seed. Raises FileNotFoundError where a soundfont or program is missing."""
    score = compose(seed, duration_s, palette)
    rng = np.random.default_rng([seed, 1])  # not the composer's: the mix does not depend on how much it drew
    length, beat_s = int(duration_s * RATE_HZ), 60 / score.beats_per_minute
    stems: dict[str, Sound] = {stem: np.zeros((2, length), np.float32) for stem in STEMS}
    sampler = Sampler()
    for part in score.parts:
        sound = _play(part, length, sampler)
        match part.stem:
            case "drums":
                stems["drums"] += mix.drums(sound, rng)
            case "bass":
                stems["bass"] += mix.bass(sound, rng)
            case stem:
                stems[stem] += mix.instrument(sound, part.role, beat_s, rng)
    sampler.close()
    for voice in score.sung:
        stems["vocals"] += mix.voice(sing(voice.syllables, voice.singer, length, rng), voice.role, beat_s, rng)
    return Song(score, mix.master(stems, rng))


def _play(part: Part, length: int, sampler: Sampler) -> Sound:
    if isinstance(part.instrument, Sampled):
        return sampler.play(part.instrument, part.notes, length)
    return synth.play(part.instrument, part.notes, length)
