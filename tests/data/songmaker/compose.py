"""From a seed to a score: form, band and what everybody plays in which section."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.data.songmaker.drums import Drummer
from tests.data.songmaker.fonts import FONTS
from tests.data.songmaker.harmony import Chord, Key, progression, random_key
from tests.data.songmaker.lines import BASS_STYLES, CHORD_STYLES, Line, bass_line, chord_line, lead_line
from tests.data.songmaker.melody import Melodist, harmonize
from tests.data.songmaker.rhythm import Grid, random_grid
from tests.data.songmaker.score import Note, Part, Sampled, Score, SungPart, Synthesized
from tests.data.songmaker.voice import Syllable, random_singer

# General MIDI programs, counted from 0, by what they are good for.
_BASS = (32, 33, 33, 34, 34, 35, 36, 37, 38, 39)
_KEYS = (0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 7, 11, 12, 16, 17, 18, 19, 20, 21, 22)
_GUITARS = (24, 24, 25, 25, 26, 27, 27, 28, 29, 30, 104, 105, 107, 46)
_HEAVY = (29, 30, 30)
_PADS = (48, 48, 49, 50, 51, 88, 89, 90, 92, 94, 95, 16, 19, 44)
_WINDS = (56, 57, 60, 61, 61, 62, 63, 64, 65, 66, 67)
_LEADS = (40, 41, 42, 56, 59, 64, 65, 66, 68, 71, 73, 73, 75, 22, 80, 81, 85, 9, 11, 12, 13, 26, 27, 29, 30, 79, 110)
_PLUCKS = (8, 9, 10, 11, 12, 13, 45, 46, 108, 24, 4, 114)
_CHOIRS = (52, 52, 53, 54)
_FOR_STYLE = {
    "pad": _PADS,
    "strum": _GUITARS,
    "comp": _KEYS,
    "arpeggio": _PLUCKS + _KEYS + _GUITARS,
    "power": _HEAVY,
    "stabs": _WINDS + _KEYS,
    "riff": _GUITARS + _WINDS + _KEYS,
    "tremolo": _PADS[:5] + _PLUCKS,
}
_SYNTH_FOR_STYLE = {"pad": "pad", "strum": "pluck", "arpeggio": "pluck", "power": "lead", "riff": "lead"}
# Sections in the order in which they come round; a song stops where its time is up.
_FORMS = ("ivcvcbcc", "vcvcbc", "ivvcvc", "cvcvc", "vvbv", "ivcsvc", "bbvc")
_ENERGY = {"i": 0.45, "v": 0.7, "c": 1.0, "b": 0.55, "s": 0.9}


@dataclass(frozen=True, slots=True)
class Section:
    """Some bars of one kind: intro, verse, chorus, bridge or solo (`ivcbs`)."""

    kind: str
    first_step: int
    chords: tuple[Chord, ...]
    steps_per_chord: int


@dataclass(frozen=True, slots=True)
class Palette:
    """Which instruments there are: soundfonts by name, and how often a part is synthesized instead."""

    fonts: tuple[str, ...]
    synthesized: float


def compose(seed: int, duration_s: float, palette: Palette) -> Score:
    """Return the song of a seed: the same one always, at most `duration_s` long, ending in silence for its tails."""
    rng = np.random.default_rng(seed)
    key, grid = random_key(rng), random_grid(rng)
    sections = _form(key, grid, duration_s - 1.5, rng)
    parts = [*_drums(grid, sections, palette, rng), *_bass(key, grid, sections, palette, rng)]
    parts += _others(key, grid, sections, palette, rng)
    sung = _voices(key, grid, sections, rng)
    parts += _choir(key, grid, sections, palette, sung, rng)
    return Score(seed, key.name, grid.beats_per_minute, duration_s, tuple(parts), tuple(sung))


def _form(key: Key, grid: Grid, duration_s: float, rng: np.random.Generator) -> list[Section]:
    chords = {kind: progression(key, rng) for kind in _ENERGY}
    if rng.random() < 0.5:
        chords["i"] = chords["v"]
    per_chord = grid.per_bar * int(rng.choice((1, 1, 1, 2))) if rng.random() < 0.85 else max(1, grid.per_bar // 2)
    total = int(duration_s / grid.step_s)
    form = _FORMS[rng.integers(len(_FORMS))]
    sections: list[Section] = []
    step, at = 0, 0
    while step < total:
        kind = form[at % len(form)]
        bars = 4 if kind == "i" or grid.beats_per_minute < 95 else int(rng.choice((4, 8)))
        count = max(1, bars * grid.per_bar // per_chord)
        line = [chords[kind][i % len(chords[kind])] for i in range(count)]
        fitting = max(1, min(count, (total - step) // per_chord))
        sections.append(Section(kind, step, tuple(line[:fitting]), per_chord))
        step += fitting * per_chord
        at += 1
        if total - step < per_chord:
            break
    return sections


def _play(line: Line, sections: Sequence[Section], plays: Callable[[Section], bool]) -> tuple[Note, ...]:
    notes: list[Note] = []
    for section in sections:
        if not plays(section):
            continue
        for i, chord in enumerate(section.chords):
            following = section.chords[(i + 1) % len(section.chords)]
            notes += line(chord, following, section.first_step + i * section.steps_per_chord, section.steps_per_chord)
    return _in_order(notes)


def _in_order(notes: list[Note]) -> tuple[Note, ...]:
    return tuple(sorted(notes, key=lambda note: (note.start_s, note.pitch)))


def _presence(rng: np.random.Generator, least: float) -> Callable[[Section], bool]:
    """Return in which kinds of section a part plays: the more energy, the likelier."""
    playing = {kind: bool(rng.random() < max(least, energy)) for kind, energy in _ENERGY.items()}
    playing["c"] = True
    return lambda section: playing[section.kind]


def _instrument(
    programs: Sequence[int], kind: str | None, palette: Palette, rng: np.random.Generator
) -> Sampled | Synthesized:
    if kind is not None and rng.random() < palette.synthesized:
        return Synthesized(kind, int(rng.integers(1 << 31)))
    return Sampled(str(rng.choice(palette.fonts)), int(rng.choice(programs)))


def _drums(grid: Grid, sections: Sequence[Section], palette: Palette, rng: np.random.Generator) -> list[Part]:
    if rng.random() < 0.05:
        return []
    drummer = Drummer(grid, rng)
    silent = {kind for kind, energy in _ENERGY.items() if rng.random() < 0.3 * (1 - energy)}
    light = {kind for kind, energy in _ENERGY.items() if rng.random() < 0.5 * (1 - energy)}
    notes: list[Note] = []
    for section in sections:
        if section.kind in silent:
            continue
        steps = len(section.chords) * section.steps_per_chord
        for step in range(0, steps, grid.per_bar):
            last = step + grid.per_bar >= steps
            first = section.first_step + step
            notes += drummer.bar(first, start=step == 0, end=last, light=section.kind in light)
    instrument: Sampled | Synthesized
    if rng.random() < palette.synthesized:
        instrument = Synthesized("kit", int(rng.integers(1 << 31)))
    else:
        font = str(rng.choice(palette.fonts))
        instrument = Sampled(font, int(rng.choice(FONTS[font].kits)), kit=True)
    return [Part("drums", "drums", instrument, _in_order(notes))]


def _bass(key: Key, grid: Grid, sections: Sequence[Section], palette: Palette, rng: np.random.Generator) -> list[Part]:
    if rng.random() < 0.05:
        return []
    line = bass_line(str(rng.choice(BASS_STYLES)), key, grid, rng)
    notes = _play(line, sections, _presence(rng, 0.6))
    return [Part("bass", "bass", _instrument(_BASS, "bass", palette, rng), notes)]


def _others(
    key: Key, grid: Grid, sections: Sequence[Section], palette: Palette, rng: np.random.Generator
) -> list[Part]:
    parts = []
    for _ in range(int(rng.choice((0, 1, 2, 3, 4), p=(0.03, 0.22, 0.35, 0.28, 0.12)))):
        style = str(rng.choice(CHORD_STYLES, p=(0.2, 0.18, 0.18, 0.15, 0.12, 0.05, 0.09, 0.03)))
        instrument = _instrument(_FOR_STYLE[style], _SYNTH_FOR_STYLE.get(style), palette, rng)
        notes = _play(chord_line(style, key, grid, rng), sections, _presence(rng, 0.4))
        parts.append(Part("other", style, instrument, notes))
    if rng.random() < 0.55:
        notes = _play(lead_line(key, grid, rng), sections, _presence(rng, 0.5))
        parts.append(Part("other", "lead", _instrument(_LEADS, "lead", palette, rng), notes))
    return parts


def _voices(key: Key, grid: Grid, sections: Sequence[Section], rng: np.random.Generator) -> list[SungPart]:
    if rng.random() < 0.07:
        return []
    singer = random_singer(rng)
    tunes: dict[str, Melodist] = {}
    lead: list[Syllable] = []
    backed: list[Syllable] = []
    silent = {"s"} | ({"i"} if rng.random() < 0.6 else set()) | ({"b"} if rng.random() < 0.3 else set())
    for section in sections:
        if section.kind in silent:
            continue
        bars = max(1, len(section.chords) * section.steps_per_chord // grid.per_bar)
        tune = tunes.setdefault(section.kind, Melodist(key, grid, singer, bars, rng))
        sung = tune.sing(section.chords, section.first_step, section.steps_per_chord)
        lead += sung
        backed += sung if section.kind == "c" else []
    voices = [SungPart("lead", singer, tuple(lead))]
    for _ in range(int(rng.choice((0, 1, 2), p=(0.55, 0.3, 0.15)))):
        second = singer if rng.random() < 0.4 else random_singer(rng)
        voices.append(SungPart("backing", second, tuple(harmonize(backed, key, second, rng))))
    return [voice for voice in voices if voice.syllables]


def _choir(
    key: Key,
    grid: Grid,
    sections: Sequence[Section],
    palette: Palette,
    sung: Sequence[SungPart],
    rng: np.random.Generator,
) -> list[Part]:
    """Return a choir behind the voice in some songs: General MIDI's voices belong to the vocals."""
    if not sung or rng.random() > 0.12:
        return []
    notes = _play(chord_line("pad", key, grid, rng), sections, lambda section: section.kind in "cb")
    return [Part("vocals", "choir", Sampled(str(rng.choice(palette.fonts)), int(rng.choice(_CHOIRS))), notes)]
