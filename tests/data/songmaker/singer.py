"""Singers: who sings, how high, with what throat and in what manner."""

from dataclasses import dataclass

import numpy as np

from tests.data.songmaker.espeak import random_voice
from tests.data.songmaker.glottis import Larynx

STYLES = ("plain", "belt", "soft", "whisper", "rap", "falsetto", "rough")


@dataclass(frozen=True, slots=True)
class Singer:
    """Everything that makes one voice differ from another."""

    engine: str  # "formants" or "espeak"
    style: str  # one of STYLES
    lowest: float  # MIDI note numbers
    highest: float
    tract: float  # formants' height: 1 is a man's
    accent: tuple[float, float, float]  # a factor for each of F1 to F3
    width: float  # of formants
    upper_hz: tuple[float, ...]  # resonances above the third, which stay
    dull: float  # loss above 4 kHz in dB per kHz
    shift: float  # of the formants that espeak-ng speaks
    notches_hz: tuple[float, ...]  # side cavities
    ring: float  # the singer's formant, 0 to 1
    nasality: float
    effort: float  # 0 breathes, 1 shouts
    effort_span: float  # what velocity adds
    voicing: float  # 0 whispers
    breath: float  # noise in vowels
    sibilance: float  # level of consonants' noise
    speed: float  # of consonants
    transition_s: float  # from sound to sound
    break_pitch: float  # above it sings falsetto
    evenness: float  # 1 sings all sounds equally loud
    dynamics: float  # exponent of velocity
    intake: float  # level of breath between phrases
    larynx: Larynx
    espeak_voice: str


def random_singer(rng: np.random.Generator) -> Singer:
    """Draw a singer: man, woman or child, of any style and either engine."""
    uniform = rng.uniform
    kind = rng.choice(["low", "man", "tenor", "alto", "woman", "child"], p=[0.12, 0.25, 0.18, 0.15, 0.22, 0.08])
    middle, tract = {
        "low": (48.0, 0.93), "man": (51.0, 1.0), "tenor": (56.0, 1.04), "alto": (60.0, 1.12), "woman": (65.0, 1.17),
        "child": (68.0, 1.35),
    }[str(kind)]  # fmt: skip
    middle, tract = middle + uniform(-3, 3), tract * uniform(0.94, 1.07)
    style = str(rng.choice(STYLES, p=[0.42, 0.14, 0.14, 0.05, 0.1, 0.06, 0.09]))
    if style == "falsetto":
        middle += uniform(5, 9)
    elif style == "rap":
        middle -= uniform(1, 3)
    span = uniform(16, 20)
    rough, soft = style == "rough", style in ("soft", "whisper", "falsetto")
    straight = style in ("rap", "whisper") or rng.random() < 0.2
    larynx = Larynx(
        vibrato_hz=uniform(4.5, 6.5),
        vibrato_cents=0 if straight else float(rng.choice([uniform(5, 25), uniform(25, 60)])),
        vibrato_delay_s=uniform(0.05, 0.6),
        portamento_s=uniform(0.03, 0.14),
        scoop_chance=uniform(0, 0.6),
        scoop_semitones=uniform(0.4, 2.5),
        fall_chance=float(rng.choice([0, 0.1, 0.4])),
        drift_cents=uniform(3, 14),
        speech=uniform(0.6, 1) if style == "rap" else 0,
        jitter=uniform(0.001, 0.006) * (2.5 if rough else 1),
        shimmer=uniform(0.01, 0.07) * (2 if rough else 1),
        rasp=uniform(0.15, 0.6) if rough or rng.random() < 0.06 else 0,
        growl=uniform(0.2, 0.6) if rough and rng.random() < 0.5 else 0,
        growl_hz=uniform(25, 80),
        open_quotient=uniform(0.4, 0.65) + (0.2 if soft else 0),
    )
    gap_hz = 1000 * tract * uniform(0.92, 1.08)
    effort = {"belt": 0.8, "rough": 0.7, "rap": 0.6, "soft": 0.25, "whisper": 0.3, "falsetto": 0.25}.get(style, 0.5)
    return Singer(
        engine="espeak" if rng.random() < 0.35 else "formants",
        style=style,
        lowest=round(middle - span / 2),
        highest=round(middle + span / 2),
        tract=tract,
        accent=(uniform(0.9, 1.1), uniform(0.9, 1.1), uniform(0.95, 1.05)),
        width=uniform(0.7, 1.8),
        upper_hz=tuple(gap_hz * (3.4 + place) * uniform(0.96, 1.04) for place in range(int(14 / tract))),
        dull=uniform(0.0, 2.0),
        shift=round(uniform(0.9, 1.12) * (1.12 if kind == "child" else 1), 3),
        notches_hz=tuple(uniform(3500, 9000, int(rng.integers(0, 4))).tolist()),
        ring=float(rng.choice([0, uniform(0.2, 1)])),
        nasality=float(rng.choice([0, uniform(0, 0.5)])),
        effort=effort + uniform(-0.15, 0.2),
        effort_span=uniform(0.1, 0.5),
        voicing=uniform(0, 0.3) if style == "whisper" else 1,
        breath=10 ** uniform(-2.2, -1.2) * (4 if soft else 1),
        sibilance=10 ** uniform(-0.25, 0.3),
        speed=uniform(0.75, 1.35),
        transition_s=uniform(0.02, 0.045),
        break_pitch=middle + uniform(0, 1.5) * span / 2,
        evenness=uniform(0.2, 0.8),
        dynamics=uniform(0.4, 1.2),
        intake=float(rng.choice([0, 10 ** uniform(-1.6, -0.7)])),
        larynx=larynx,
        espeak_voice=random_voice(high=middle > 57, rng=rng),
    )
