"""What is sung: phrases with a rhythm and a contour that come back, on made-up words that come back with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.data.songmaker.harmony import Chord, Key, near
from tests.data.songmaker.rhythm import Grid, random_rhythm
from tests.data.songmaker.voice import Singer, Syllable, lyrics


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrase of some bars: (step, steps, contour in scale steps, word) a syllable."""

    notes: tuple[tuple[int, int, float, str], ...]


class Melodist:
    """Writes one section's tune and sings it again wherever the section comes back, over its chords."""

    def __init__(self, key: Key, grid: Grid, singer: Singer, bars: int, rng: np.random.Generator) -> None:
        """Draw the phrases: some come twice, as in most songs."""
        self._key, self._grid, self._singer, self._rng = key, grid, singer, rng
        self._bars = int(rng.choice((1, 2, 2, 4))) if bars >= 4 else 1
        self._density = float(rng.uniform(0.18, 0.5))
        self._centre = float(rng.uniform(singer.lowest + 4, max(singer.lowest + 5, singer.highest - 5)))
        ideas = [self._phrase() for _ in range(2)]
        shape = str(rng.choice(("aaba", "abab", "aabb", "abaa", "aaab")))
        self._phrases = [ideas["ab".index(letter)] for letter in shape]

    def sing(self, chords: Sequence[Chord], first_step: int, steps_per_chord: int) -> list[Syllable]:
        """Return the syllables over the chords of a section."""
        syllables: list[Syllable] = []
        length = len(chords) * steps_per_chord
        size = self._bars * self._grid.per_bar
        for i, start in enumerate(range(0, length, size)):
            for step, steps, contour, word in self._phrases[i % len(self._phrases)].notes:
                if start + step >= length:
                    break
                chord = chords[(start + step) // steps_per_chord]
                pitch = self._pitch(contour, chord, step, steps)
                at = self._grid.at(first_step + start + step) + self._rng.normal(0.0, 0.012)
                until = self._grid.at(first_step + start + min(step + steps, length - start))
                force = float(np.clip(self._rng.normal(0.75, 0.12), 0.3, 1))
                syllables.append(Syllable(max(0.0, at), max(0.08, until - at - 0.03), float(pitch), word, force))
        return syllables

    def _phrase(self) -> _Phrase:
        grid, rng = self._grid, self._rng
        size = self._bars * grid.per_bar
        sung = size - int(rng.integers(0, max(2, size // 3)))
        rhythm = random_rhythm(sung, grid.per_beat, self._density, rng)
        if rng.random() < 0.35:  # an upbeat: the phrase starts late
            rhythm = "." * (grid.per_beat // 2) + rhythm[grid.per_beat // 2 :]
        struck = [step for step, mark in enumerate(rhythm) if mark != "."]
        shortest = 0.11 / grid.step_s  # faster than this nobody sings
        kept = [step for i, step in enumerate(struck) if i == 0 or step - struck[i - 1] >= shortest]
        words = lyrics(max(1, len(kept)), rng)
        notes, here = [], float(rng.normal(0, 2))
        for i, step in enumerate(kept):
            after = kept[i + 1] if i + 1 < len(kept) else size
            here = float(np.clip(here * 0.85 + rng.normal(0, 1.6), -5, 5))
            longest = int(rng.integers(2, 9)) * grid.per_beat // 2
            notes.append((step, min(after - step, max(1, longest)), here, words[i]))
        return _Phrase(tuple(notes))

    def _pitch(self, contour: float, chord: Chord, step: int, steps: int) -> int:
        """Return a chord tone on the beats and on long notes, a scale tone elsewhere, where the singer can sing it."""
        aim = self._centre + 1.7 * contour
        stressed = step % self._grid.per_beat == 0 or steps >= 2 * self._grid.per_beat
        tones = chord.tones if stressed else self._key.scale
        pitch = min((near(tone, aim) for tone in tones), key=lambda each: abs(each - aim))
        return _within(pitch, self._singer)


def harmonize(tune: Sequence[Syllable], key: Key, singer: Singer, rng: np.random.Generator) -> list[Syllable]:
    """Return a second voice to the tune: the same words a third or a sixth away, in the key, or in unison."""
    apart = int(rng.choice((2, -2, 5, -5, 0)))
    scale = sorted(key.scale)
    ladder = [octave * 12 + tone for octave in range(11) for tone in scale]
    voice = []
    for each in tune:
        rung = min(range(len(ladder)), key=lambda i: abs(ladder[i] - each.pitch))
        pitch = _within(ladder[int(np.clip(rung + apart, 0, len(ladder) - 1))], singer)
        late = each.start_s + abs(float(rng.normal(0, 0.015)))
        voice.append(Syllable(late, each.duration_s, float(pitch), each.text, each.velocity * 0.8))
    return voice


def _within(pitch: int, singer: Singer) -> int:
    """Return the pitch moved by octaves to where the singer can sing it."""
    while pitch > singer.highest:
        pitch -= 12
    while pitch < singer.lowest:
        pitch += 12
    return pitch
