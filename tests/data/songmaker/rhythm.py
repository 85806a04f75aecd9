"""Time: the grid of a song, and rhythms on it as strings of steps (`X` loud, `x` softer, `g` a ghost, `.` nothing)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

VELOCITY = {"X": 1.0, "x": 0.75, "g": 0.35}


@dataclass(frozen=True, slots=True)
class Grid:
    """The steps of a song, `per_beat` a beat; the off steps come late by `swing` of a step."""

    beats_per_minute: float
    beats_per_bar: int
    per_beat: int
    swing: float

    @property
    def per_bar(self) -> int:
        """Return the steps in a bar."""
        return self.beats_per_bar * self.per_beat

    @property
    def step_s(self) -> float:
        """Return the seconds of an even step."""
        return 60 / self.beats_per_minute / self.per_beat

    def at(self, step: float) -> float:
        """Return when a step counted from the start of the song comes, in seconds."""
        late = self.swing if self.per_beat == 4 and round(step) % 2 else 0.0
        return (step + late) * self.step_s


def random_grid(rng: np.random.Generator) -> Grid:
    """Draw tempo, metre and swing: mostly 4/4 in sixteenths, some triplet feel, some 3/4."""
    tempo = float(np.clip(rng.lognormal(np.log(110), 0.25), 62, 185))
    kind = rng.random()
    if kind < 0.1:
        return Grid(min(tempo, 125), 4, 3, 0.0)
    swing = float(rng.choice((0.0, rng.uniform(0.05, 0.3)), p=(0.7, 0.3)))
    return Grid(tempo, 3 if kind < 0.2 else 4, 4, swing)


def hits(pattern: str, steps: int) -> Iterator[tuple[int, float]]:
    """Yield step and velocity of every hit; the pattern is repeated or cut to `steps`."""
    for step in range(steps):
        if (mark := pattern[step % len(pattern)]) in VELOCITY:
            yield step, VELOCITY[mark]


def random_rhythm(steps: int, per_beat: int, density: float, rng: np.random.Generator) -> str:
    """Draw a rhythm that prefers beats, then half beats; `density` is the share of steps that sound."""
    weights = np.full(steps, 0.35)
    weights[:: max(1, per_beat // 2)] = 0.9
    weights[::per_beat] = 1.6
    chance = np.clip(weights * density / weights.mean(), 0, 0.97)
    marks = ["." if rng.random() > p else ("X" if p > density else "x") for p in chance]
    marks[0] = "X"
    return "".join(marks)
