"""Keys, scales and chord progressions."""

from dataclasses import dataclass

import numpy as np

_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_MODES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Degrees counted from 0, one a chord.
_PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": (
        (0, 4, 5, 3),
        (5, 3, 0, 4),
        (0, 5, 3, 4),
        (0, 3, 4, 3),
        (0, 3, 0, 4),
        (1, 4, 0, 5),
        (3, 4, 2, 5),
        (0, 2, 3, 4),
        (0, 0, 3, 3),
        (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4),
        (0, 4, 5, 2, 3, 0, 3, 4),
    ),
    "minor": (
        (0, 5, 2, 6),
        (0, 6, 5, 6),
        (0, 3, 4, 0),
        (0, 5, 3, 4),
        (0, 2, 6, 3),
        (5, 6, 0, 0),
        (0, 0, 5, 6),
        (0, 3, 6, 2),
        (0, 6, 5, 4),
    ),
    "dorian": ((0, 3), (0, 3, 0, 6), (0, 2, 3, 3), (0, 6, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 6), (0, 4, 6, 3)),
}


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord: its root as a pitch class 0..11 and its tones as pitch classes, root first."""

    root: int
    tones: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic 0..11 (0 is C) and a mode."""

    tonic: int
    mode: str

    @property
    def name(self) -> str:
        """Return the key as people write it."""
        return f"{_NAMES[self.tonic]} {self.mode}"

    @property
    def scale(self) -> tuple[int, ...]:
        """Return the pitch classes of the scale, tonic first."""
        return tuple((self.tonic + step) % 12 for step in _MODES[self.mode])

    def chord(self, degree: int, tones: int) -> Chord:
        """Return the chord of `tones` stacked thirds on a degree counted from 0."""
        scale = self.scale
        stack = tuple(scale[(degree + 2 * k) % 7] for k in range(tones))
        return Chord(stack[0], stack)


def random_key(rng: np.random.Generator) -> Key:
    """Draw a key; major and minor most often."""
    mode = str(rng.choice(list(_MODES), p=(0.4, 0.36, 0.12, 0.12)))
    return Key(int(rng.integers(12)), mode)


def progression(key: Key, rng: np.random.Generator) -> list[Chord]:
    """Draw a progression; some songs use sevenths, some plain fifths, and some change a chord."""
    choices = _PROGRESSIONS[key.mode]
    degrees = list(choices[rng.integers(len(choices))])
    if rng.random() < 0.25:
        degrees[int(rng.integers(len(degrees)))] = int(rng.integers(6))
    tones = int(rng.choice((3, 4), p=(0.7, 0.3)))
    return [key.chord(degree, tones) for degree in degrees]


def near(pitch_class: int, centre: float) -> int:
    """Return the MIDI pitch of that class nearest to `centre`."""
    return int(round((centre - pitch_class) / 12)) * 12 + pitch_class


def voicing(chord: Chord, centre: float, size: int) -> list[int]:
    """Return `size` chord tones packed around the MIDI pitch `centre`, lowest first."""
    pitches = sorted(near(tone, centre) for tone in chord.tones)
    while len(pitches) < size:
        pitches.append(pitches[len(pitches) - len(chord.tones)] + 12)
    return pitches[:size] if size < len(pitches) else pitches
