"""What bass and chord instruments play over a chord: one pattern a part, the same through the song."""

from collections.abc import Callable

import numpy as np

from tests.data.songmaker.harmony import Chord, Key, near, voicing
from tests.data.songmaker.rhythm import Grid, hits, random_rhythm
from tests.data.songmaker.score import Note

# Plays a chord for some steps from a step of the song on; the next chord lets a line walk there.
Line = Callable[[Chord, Chord, int, int], list[Note]]

BASS_STYLES = ("roots", "fifths", "walking", "locked", "octaves", "long", "riff")
CHORD_STYLES = ("pad", "strum", "comp", "arpeggio", "power", "stabs", "riff", "tremolo")


class Player:
    """One player's hand: how loud, how loose and how long the notes are held."""

    def __init__(self, grid: Grid, rng: np.random.Generator) -> None:
        """Draw the hand."""
        self.grid, self.rng = grid, rng
        self._loose_s = float(rng.uniform(0.001, 0.012))
        self._loud = float(rng.uniform(0.6, 0.95))
        self._held = float(rng.uniform(0.55, 1.02))

    def note(self, step: float, steps: float, pitch: int, force: float = 1.0, held: float | None = None) -> Note:
        """Return a note of `steps` grid steps, a little early or late."""
        start = self.grid.at(step) + self.rng.normal(0, self._loose_s)
        velocity = float(np.clip(force * self._loud * self.rng.normal(1, 0.07), 0.08, 1))
        duration = steps * self.grid.step_s * (self._held if held is None else held)
        return Note(max(0.0, start), max(0.04, duration), pitch, velocity)


def bass_line(style: str, key: Key, grid: Grid, rng: np.random.Generator) -> Line:
    """Return a bass player of a style in BASS_STYLES, between E1 and about G2."""
    player, beat = Player(grid, rng), grid.per_beat
    centre = float(rng.uniform(33, 40))
    lock = random_rhythm(grid.per_bar, beat, rng.uniform(0.2, 0.5), rng)
    steps_of_riff = [int(rng.choice((0, 0, 0, 7, 12, 10, 5, 3, -2))) for _ in range(16)]

    def play(chord: Chord, following: Chord, first: int, steps: int) -> list[Note]:
        root = near(chord.root, centre)
        if style == "long":
            return [player.note(first, steps, root, held=0.97)]
        if style == "walking":
            target, notes = near(following.root, centre), []
            tones = [
                root,
                near(chord.tones[1], root + 3),
                near(chord.tones[2], root + 7),
                target + int(rng.choice((-1, 1))),
            ]
            for i, step in enumerate(range(0, steps, beat)):
                pitch = tones[-1] if step + beat >= steps else root if i == 0 else int(rng.choice(tones[:3]))
                notes.append(player.note(first + step, beat, pitch, held=0.95))
            return notes
        pattern = {
            "roots": "X" + "." * (max(1, beat // 2) - 1),
            "octaves": "X" + "." * (max(1, beat // 2) - 1),
            "fifths": "X" + "." * (2 * beat - 1),
        }.get(style, lock)
        struck = list(hits(pattern, steps))
        notes = []
        for i, (step, force) in enumerate(struck):
            after = struck[i + 1][0] if i + 1 < len(struck) else steps
            up = {"octaves": 12 * (i % 2), "fifths": 7 * (i % 2), "riff": steps_of_riff[i % 16]}.get(style, 0)
            if style == "locked" and rng.random() < 0.12:
                up = int(rng.choice((12, 7, 5)))
            notes.append(player.note(first + step, after - step, _in_key(root + up, key), force))
        return notes

    return play


def chord_line(style: str, key: Key, grid: Grid, rng: np.random.Generator) -> Line:
    """Return a player of chords of a style in CHORD_STYLES."""
    player, beat = Player(grid, rng), grid.per_beat
    centre, size = float(rng.uniform(52, 72)), int(rng.integers(3, 6))
    rhythm = random_rhythm(grid.per_bar, beat, rng.uniform(0.2, 0.6), rng)
    order = (
        [int(i) for i in rng.integers(0, size, 16)] if rng.random() < 0.4 else [*range(size), *range(size - 2, 0, -1)]
    )
    pace = int(rng.choice((1, max(1, beat // 2), beat)))
    motif = [int(i) for i in rng.integers(0, 7, 16)]
    strum_s = float(rng.uniform(0.004, 0.025))

    def play(chord: Chord, following: Chord, first: int, steps: int) -> list[Note]:
        pitches = voicing(chord, centre, size)
        if style == "pad":
            return [player.note(first, steps, pitch, held=1.0) for pitch in pitches]
        if style == "arpeggio":
            return [
                player.note(first + step, pace * 1.5, pitches[order[(step // pace) % len(order)] % len(pitches)], 0.85)
                for step in range(0, steps, pace)
            ]
        if style == "tremolo":
            return [player.note(first + s, 1, p, 0.7 + 0.3 * (s % 2 == 0)) for s in range(steps) for p in pitches[-2:]]
        pattern = "X" + "." * (grid.per_bar // 2 - 1) if style == "stabs" and rng.random() < 0.3 else rhythm
        if style == "power":
            root = near(chord.root, 43)
            pitches = [root, root + 7, root + 12]
            pattern = "X" + "x" * (max(1, beat // 2) - 1) if pace == 1 else rhythm
        struck = list(hits(pattern, steps))
        notes = []
        for i, (step, force) in enumerate(struck):
            after = struck[i + 1][0] if i + 1 < len(struck) else steps
            if style == "riff":
                scale = key.scale
                pitch = near(scale[motif[i % 16]], centre) if i % 3 else near(chord.root, centre)
                notes.append(player.note(first + step, after - step, pitch, force))
                continue
            length = min(after - step, 2) if style in ("comp", "stabs") else after - step
            down = (step // max(1, beat // 2)) % 2 == 0
            for k, pitch in enumerate(pitches if down else pitches[::-1]):
                late = k * strum_s / grid.step_s if style == "strum" else 0.0
                notes.append(player.note(first + step + late, length, pitch, force))
        return notes

    return play


def lead_line(key: Key, grid: Grid, rng: np.random.Generator) -> Line:
    """Return a player of melodies and fills on one instrument: phrases of a scale walk with rests between."""
    player, beat = Player(grid, rng), grid.per_beat
    low, high = sorted(rng.uniform(55, 90, 2))
    high = max(high, low + 12)
    rhythms = [random_rhythm(grid.per_bar, beat, rng.uniform(0.2, 0.55), rng) for _ in range(2)]
    rest = float(rng.uniform(0.1, 0.6))
    here = float((low + high) / 2)

    def play(chord: Chord, following: Chord, first: int, steps: int) -> list[Note]:
        nonlocal here
        if rng.random() < rest:
            return []
        struck = list(hits(rhythms[int(rng.integers(2))], steps))
        notes = []
        for i, (step, force) in enumerate(struck):
            after = struck[i + 1][0] if i + 1 < len(struck) else steps
            aim = float(np.clip(here + rng.normal(0, 3.5), low, high))
            pitch = near(int(rng.choice(chord.tones)), aim) if step % beat == 0 else _in_key(round(aim), key)
            here = float(pitch)
            notes.append(player.note(first + step, after - step, pitch, force, held=0.95))
        return notes

    return play


def _in_key(pitch: int, key: Key) -> int:
    """Return the pitch, or the one below it where it is not in the scale."""
    return pitch if pitch % 12 in key.scale else pitch - 1
