"""What is played: notes, the parts that play them, and the song that they make. Values only."""

from dataclasses import dataclass

from tests.data.songmaker.voice import Singer, Syllable

RATE_HZ = 44100
STEMS = ("drums", "bass", "other", "vocals")


@dataclass(frozen=True, slots=True)
class Note:
    """A note: start and duration in seconds, MIDI pitch (on a drum kit: which drum), velocity 0..1."""

    start_s: float
    duration_s: float
    pitch: int
    velocity: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """An instrument of a soundfont: `program` in General MIDI's order, `kit` for drum kits."""

    font: str
    program: int
    kit: bool = False


@dataclass(frozen=True, slots=True)
class Synthesized:
    """An instrument of `synth.py`, everything about it drawn from `seed`; `kind` is bass, pad, pluck, lead or kit."""

    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one instrument plays; `role` decides how it is mixed."""

    stem: str
    role: str
    instrument: Sampled | Synthesized
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class SungPart:
    """What one voice sings; `role` is lead or backing."""

    role: str
    singer: Singer
    syllables: tuple[Syllable, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A song on paper. `beats_per_minute` in quarter notes; `key` for people."""

    seed: int
    key: str
    beats_per_minute: float
    duration_s: float
    parts: tuple[Part, ...]
    sung: tuple[SungPart, ...]
