"""Drum grooves and fills, on General MIDI's map of drums."""

from collections.abc import Mapping

import numpy as np

from tests.data.songmaker.rhythm import Grid, hits, random_rhythm
from tests.data.songmaker.score import Note

KICK, SNARE, SIDE, CLAP = 36, 38, 37, 39
HAT, PEDAL, OPEN, CRASH, RIDE = 42, 44, 46, 49, 51
LOW, MID, HIGH = 43, 47, 50
_SHAKERS = (70, 54, 69, 56, 75, 82)  # maracas, tambourine, cabasa, cowbell, claves, shaker
_CONGAS = (60, 61, 62, 63, 64)

# Steps of a bar of 4/4 in sixteenths.
_GROOVES: tuple[Mapping[int, str], ...] = (
    {KICK: "X.......X.......", SNARE: "....X.......X...", HAT: "X.x.X.x.X.x.X.x."},
    {KICK: "X.....x.X.x.....", SNARE: "....X..g.g..X..g", HAT: "X.x.X.x.X.x.X.x."},
    {KICK: "X...X...X...X...", CLAP: "....X.......X...", OPEN: "..X...X...X...X.", HAT: "x.....x.x.....x."},
    {KICK: "X...X...X...X...", SNARE: "....X.......X...", HAT: "xxXxxxXxxxXxxxXx"},
    {KICK: "X..x......x..x..", SNARE: "....X.......X...", HAT: "x.x.x.x.x.x.x.xx"},
    {KICK: "X.........x.....", SNARE: "........X.......", HAT: "X...x...X...x..."},
    {KICK: "X..x..X...x..x..", SNARE: "....X..g.gg.X..g", HAT: "XxxxXxxxXxxxXxxx"},
    {KICK: "X.X.....X.X.....", SNARE: "....X.......X...", RIDE: "X.x.X.x.X.x.X.x.", PEDAL: "....x.......x..."},
    {KICK: "X..x....X..x....", SIDE: "....X.....X.....", HAT: "x.x.x.x.x.x.x.x."},
    {KICK: "X.....X.......x.", SNARE: "....X.......X...", HAT: "x.xxx.x.xxx.x.xx"},
    {KICK: "X...............", SNARE: "........X.......", RIDE: "X...X..xX...X..x", PEDAL: "....x.......x..."},
    {KICK: "XxXxXxXxXxXxXxXx", SNARE: "....X.......X...", CRASH: "X...x...x...x..."},
    {KICK: "x...x...x...x...", LOW: "X..x..x.X..x..x.", HAT: "..x...x...x...x."},
    {SNARE: "Xg.gXgg.Xg.gXgxg", KICK: "X.......X......."},
    {KICK: "X.......x.......", SIDE: "x..x..x...x..x..", HAT: "XxxxXxxxXxxxXxxx"},
)
_TRIPLETS: tuple[Mapping[int, str], ...] = (
    {KICK: "X..x.xX..x..", SNARE: "...X.....X..", HAT: "X.xX.xX.xX.x"},
    {KICK: "X.....X.....", SNARE: "...X.....X..", RIDE: "X..X.xX..X.x"},
    {KICK: "X....xX.....", SNARE: "...X.....X.g", HAT: "XxxXxxXxxXxx"},
)
_WALTZES: tuple[Mapping[int, str], ...] = (
    {KICK: "X...........", SNARE: "....x...x...", HAT: "X.x.X.x.X.x."},
    {KICK: "X.......x...", SNARE: "....X.......", RIDE: "X...X.x.X.x."},
)


class Drummer:
    """Plays bars of one groove with a hand of its own: loudness, looseness, favourite variations."""

    def __init__(self, grid: Grid, rng: np.random.Generator) -> None:
        """Draw a groove for the song's metre, and its variations."""
        self._grid, self._rng = grid, rng
        choices = _GROOVES if grid.per_bar == 16 else _TRIPLETS if grid.per_beat == 3 else _WALTZES
        groove = dict(choices[rng.integers(len(choices))])
        if rng.random() < 0.35:
            groove[KICK] = "X" + random_rhythm(grid.per_bar, grid.per_beat, rng.uniform(0.1, 0.4), rng)[1:]
        if rng.random() < 0.3 and HAT in groove:
            groove[RIDE if rng.random() < 0.5 else PEDAL] = groove.pop(HAT)
        if rng.random() < 0.2:
            groove[OPEN] = random_rhythm(grid.per_bar, grid.per_beat, 0.08, rng).replace("X", ".", 1)
        if rng.random() < 0.25:
            groove[int(rng.choice(_SHAKERS))] = random_rhythm(grid.per_bar, grid.per_beat, rng.uniform(0.3, 0.8), rng)
        if rng.random() < 0.12:
            for conga in rng.choice(_CONGAS, 2, replace=False):
                groove[int(conga)] = random_rhythm(grid.per_bar, grid.per_beat, 0.25, rng)
        self._groove = groove
        self._loose_s = float(rng.uniform(0.001, 0.012))
        self._loud = float(rng.uniform(0.65, 0.95))
        self._fill = float(rng.uniform(0.3, 1))

    def bar(self, first_step: int, *, start: bool, end: bool, light: bool) -> list[Note]:
        """Return one bar: a crash where a section starts, a fill where it ends, only the cymbals where it is light."""
        grid, rng, notes = self._grid, self._rng, []
        fill = int(rng.integers(2, grid.beats_per_bar + 1)) * grid.per_beat if end and rng.random() < self._fill else 0
        for drum, pattern in self._groove.items():
            if light and drum in (KICK, SNARE, CLAP):
                continue
            for step, force in hits(pattern, grid.per_bar - fill):
                if rng.random() > 0.03:
                    notes.append(self._hit(first_step + step, drum, force))
        if start and not light and rng.random() < 0.8:
            notes.append(self._hit(first_step, CRASH if rng.random() < 0.7 else 57, 1.0))
        for step in range(grid.per_bar - fill, grid.per_bar):
            if rng.random() < 0.75:
                done = (step - grid.per_bar + fill) / max(1, fill)
                drum = (SNARE, HIGH, MID, LOW)[int(np.clip(rng.normal(4 * done, 0.8), 0, 3))]
                notes.append(self._hit(first_step + step, drum, 0.6 + 0.4 * done))
            if step % grid.per_beat == 0:
                notes.append(self._hit(first_step + step, KICK, 0.9))
        return notes

    def _hit(self, step: float, drum: int, force: float) -> Note:
        start = self._grid.at(step) + self._rng.normal(0, self._loose_s)
        velocity = float(np.clip(force * self._loud * self._rng.normal(1, 0.08), 0.05, 1))
        return Note(max(0.0, start), 0.25, drum, velocity)
