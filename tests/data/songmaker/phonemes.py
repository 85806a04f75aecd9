"""The sounds of speech: their formants and noises, their order in time, and the response of the vocal tract."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

RATE_HZ = 44_100
# Closer than this, one syllable runs into the next.
LEGATO_S = 0.06


@dataclass(frozen=True, slots=True)
class Phone:
    """One sound as a man's vocal tract (17.5 cm) makes it; formants are after Peterson & Barney 1952, Klatt 1980."""

    kind: str  # vowel, glide, nasal, fricative, plosive, aspirate
    formants_hz: tuple[float, float, float]
    espeak: str  # its name in espeak-ng's English
    spelling: str
    voicing: float = 1.0  # amplitudes, a vowel's is 1
    frication: float = 0.0
    noise_hz: float = 5_000.0
    noise_octaves: float = 0.6
    duration_s: float = 0.06
    end_hz: tuple[float, float, float] | None = None  # where a diphthong goes


def _vowel(espeak: str, spelling: str, *hz: float) -> Phone:
    end = (hz[3], hz[4], hz[5]) if len(hz) == 6 else None
    return Phone("vowel", (hz[0], hz[1], hz[2]), espeak, spelling, end_hz=end, duration_s=0.2)


def _fricative(espeak: str, spelling: str, level: float, hz: float, octaves: float, locus_hz: float) -> Phone:
    voiced = espeak in "vDzZ"
    return Phone(
        "fricative", (320, locus_hz, 2550), espeak, spelling, 0.4 if voiced else 0, level * (0.55 if voiced else 1),
        hz, octaves, 0.075 if voiced else 0.115,
    )  # fmt: skip


def _plosive(espeak: str, spelling: str, hz: float, octaves: float, locus_hz: float, level: float = 1) -> Phone:
    voiced = espeak in ("b", "d", "g", "dZ")
    return Phone(
        "plosive", (250, locus_hz, 2500), espeak, spelling, 0.12 if voiced else 0, level * (0.6 if voiced else 1),
        hz, octaves, 0.07 if voiced else 0.1,
    )  # fmt: skip


PHONES: dict[str, Phone] = {
    "aa": _vowel("A:", "a", 730, 1090, 2440),
    "ae": _vowel("a", "a", 660, 1720, 2410),
    "ah": _vowel("V", "a", 640, 1190, 2390),
    "ao": _vowel("O:", "o", 570, 840, 2410),
    "eh": _vowel("E", "e", 530, 1840, 2480),
    "er": _vowel("3:", "er", 490, 1350, 1690),
    "ih": _vowel("I", "i", 390, 1990, 2550),
    "iy": _vowel("i:", "i", 270, 2290, 3010),
    "uh": _vowel("U", "u", 440, 1020, 2240),
    "uw": _vowel("u:", "u", 300, 870, 2240),
    "ey": _vowel("eI", "ei", 480, 1900, 2500, 320, 2250, 2800),
    "ay": _vowel("aI", "ai", 720, 1200, 2450, 350, 2050, 2600),
    "aw": _vowel("aU", "au", 720, 1250, 2450, 400, 880, 2300),
    "ow": _vowel("oU", "o", 490, 960, 2400, 350, 820, 2300),
    "oy": _vowel("OI", "oi", 550, 850, 2400, 350, 2000, 2550),
    "m": Phone("nasal", (250, 1000, 2200), "m", "m", 0.55, duration_s=0.07),
    "n": Phone("nasal", (250, 1550, 2600), "n", "n", 0.55),
    "ng": Phone("nasal", (260, 2050, 2700), "N", "ng", 0.5, duration_s=0.08),
    "l": Phone("glide", (360, 1050, 2750), "l", "l", 0.7),
    "r": Phone("glide", (330, 1150, 1550), "r", "r", 0.7),
    "w": Phone("glide", (290, 650, 2150), "w", "u", 0.65),
    "y": Phone("glide", (260, 2200, 2950), "j", "i", 0.65, duration_s=0.05),
    "hh": Phone("aspirate", (0, 0, 0), "h", "h", 0, duration_s=0.07),
    "s": _fricative("s", "s", 1.0, 7_200, 0.42, 1700),
    "z": _fricative("z", "s", 1.0, 7_000, 0.45, 1700),
    "sh": _fricative("S", "sh", 1.1, 3_600, 0.55, 1900),
    "zh": _fricative("Z", "g", 1.0, 3_500, 0.55, 1900),
    "f": _fricative("f", "f", 0.4, 7_500, 1.3, 1000),
    "v": _fricative("v", "v", 0.35, 6_500, 1.3, 1000),
    "th": _fricative("T", "th", 0.4, 8_000, 1.1, 1400),
    "dh": _fricative("D", "d", 0.3, 6_500, 1.1, 1400),
    "p": _plosive("p", "p", 1_100, 1.4, 900),
    "b": _plosive("b", "b", 800, 1.3, 900),
    "t": _plosive("t", "t", 4_800, 0.7, 1750, 1.2),
    "d": _plosive("d", "d", 4_000, 0.7, 1750, 1.2),
    "k": _plosive("k", "c", 2_200, 0.6, 2000, 1.2),
    "g": _plosive("g", "g", 2_000, 0.6, 2000, 1.2),
    "ch": _plosive("tS", "ch", 3_800, 0.6, 1900, 1.1),
    "jh": _plosive("dZ", "j", 3_600, 0.6, 1900, 1.1),
}


def parsed(text: str) -> tuple[list[str], str, list[str]]:
    """Split a syllable ("s t aa r": phones parted by blanks) into its onset, its vowel and its coda.

    Raises ValueError for an unknown phone and where there is not exactly one vowel.
    """
    names = text.split()
    unknown = [name for name in names if name not in PHONES]
    vowels = [place for place, name in enumerate(names) if name in PHONES and PHONES[name].kind == "vowel"]
    if unknown or len(vowels) != 1:
        raise ValueError(f"not a syllable: {text!r}")
    return names[: vowels[0]], names[vowels[0]], names[vowels[0] + 1 :]


def spans(start_s: Doubles, duration_s: Doubles, onset_s: Doubles, coda_s: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return where onsets start, vowels end and syllables end, in seconds, all (syllables,).

    Onsets and codas are shortened where there is no room; close syllables are joined.
    """
    end_s = start_s + duration_s
    room_s = np.full(len(start_s), np.inf)
    room_s[1:] = np.maximum(start_s[1:] - start_s[:-1], 0.02) * 0.45
    room_s[1:] = np.maximum(room_s[1:], start_s[1:] - end_s[:-1])
    first_s = start_s - np.minimum(onset_s, room_s)
    joined = first_s[1:] < end_s[:-1] + LEGATO_S
    end_s[:-1] = np.where(joined, first_s[1:], end_s[:-1])
    end_s = np.maximum(end_s, start_s + 0.01)
    return first_s, end_s - np.minimum(coda_s, 0.45 * (end_s - start_s)), end_s


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of time in which the articulators keep one position."""

    start_s: float
    end_s: float
    formants_hz: tuple[float, float, float]
    end_hz: tuple[float, float, float]
    voicing: float = 0.0
    aspiration: float = 0.0
    frication: float = 0.0
    noise_hz: float = 5_000.0
    noise_octaves: float = 0.6
    nasal: float = 0.0


def duration_s(names: Sequence[str]) -> float:
    """Return how long consonants last when nothing presses, in seconds."""
    return sum(PHONES[name].duration_s for name in names)


def parts(names: Sequence[str], start_s: float, end_s: float, vowel: str) -> list[Part]:
    """Spread phones over a span of time, next to a vowel whose formants aspirated ones borrow."""
    made: list[Part] = []
    stretch = (end_s - start_s) / max(sum(PHONES[name].duration_s for name in names), 1e-6)
    now_s = start_s
    for name in names:
        phone = PHONES[name]
        until_s = now_s + phone.duration_s * stretch
        hz = phone.formants_hz if phone.kind != "aspirate" else PHONES[vowel].formants_hz
        sound = (hz, phone.end_hz or hz)
        noise = (phone.noise_hz, phone.noise_octaves)
        if phone.kind == "plosive":
            burst_s = until_s - (until_s - now_s) * (0.6 if name in ("ch", "jh") else 0.2 if phone.voicing else 0.45)
            release_s = burst_s + min(0.012, 0.5 * (until_s - burst_s)) if name not in ("ch", "jh") else until_s
            made.append(Part(now_s, burst_s, *sound, phone.voicing, 0, 0, *noise))
            made.append(Part(burst_s, release_s, *sound, phone.voicing, 0.2, phone.frication, *noise))
            vowel_hz = PHONES[vowel].formants_hz
            made.append(Part(release_s, until_s, vowel_hz, vowel_hz, 2 * phone.voicing, 0.6, 0.08, *noise))
        elif phone.kind == "aspirate":
            made.append(Part(now_s, until_s, *sound, 0, 1.0))
        else:
            nasal = float(phone.kind == "nasal")
            made.append(Part(now_s, until_s, *sound, phone.voicing, 0, phone.frication, *noise, nasal))
        now_s = until_s
    return made


@dataclass(frozen=True, slots=True)
class Tracks:
    """What the articulators do over time, as knots to interpolate between."""

    at_s: Doubles  # (knots,) for the places
    places: Doubles  # (knots, 6): F1, F2, F3 in Hz, noise in log2 Hz, its width in octaves, nasality
    levels_at_s: Doubles
    levels: Doubles  # (knots, 3): voicing, aspiration, frication


def tracks(made: Sequence[Part], transition_s: float) -> Tracks:
    """Join parts: the articulators glide in `transition_s`, voice and noise come and go within milliseconds."""
    at, places, levels_at, levels = [], [], [], []
    last_s = -np.inf
    for part in made:
        length_s = part.end_s - part.start_s
        if length_s <= 0:
            continue
        edge_s = min(transition_s, 0.45 * length_s)
        rest = (np.log2(part.noise_hz), part.noise_octaves, part.nasal)
        middle = tuple(0.85 * a + 0.15 * b for a, b in zip(part.formants_hz, part.end_hz, strict=True))
        at += [part.start_s + edge_s, part.end_s - max(edge_s, 0.4 * length_s), part.end_s - 0.8 * edge_s]
        places += [(*part.formants_hz, *rest), (*middle, *rest), (*part.end_hz, *rest)]
        if part.start_s > last_s + 1e-3:
            levels_at += [last_s + 0.03, part.start_s - 0.005] if last_s > 0 else [part.start_s - 0.005]
            levels += [(0.0, 0.0, 0.0)] * (2 if last_s > 0 else 1)
        ramp_s = min(0.012 if part.voicing > 0.5 else 0.003, 0.3 * length_s)
        level = (part.voicing, part.aspiration, part.frication)
        levels_at += [part.start_s + ramp_s, part.end_s - ramp_s]
        levels += [level, level]
        last_s = part.end_s
    levels_at.append(last_s + 0.03)
    levels.append((0.0, 0.0, 0.0))
    order = np.argsort(np.array(levels_at), kind="stable")
    return Tracks(np.array(at), np.array(places), np.array(levels_at)[order], np.array(levels)[order])


def sampled(at_s: Doubles, knots_s: Doubles, values: Doubles) -> Floats:
    """Interpolate columns of values (knots, columns) at times: (times, columns)."""
    columns = [np.interp(at_s, knots_s, values[:, place]) for place in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def response(
    formants_hz: Floats, width: float, upper_hz: Sequence[float], dull: float, bins_hz: Floats
) -> NDArray[np.complex64]:
    """Return the cascade of resonances: formants (frames, n) that move, upper ones that stay; (frames, bins).

    Above 4 kHz its trend is a loss of `dull` dB per kHz: a finite cascade would lose far too much.
    """
    squared = np.square(bins_hz)
    gap_hz = upper_hz[0] / 3.4
    neutral = np.ones(len(bins_hz), dtype=np.complex128)
    fixed = neutral.copy()
    for hz in (0.5 * gap_hz, 1.5 * gap_hz, 2.5 * gap_hz, *upper_hz):
        resonance = hz * hz / (hz * hz - squared + 1j * bins_hz * width * (60 + 0.035 * hz))
        neutral *= resonance
        if hz >= upper_hz[0]:
            fixed *= resonance
    bin_hz = float(bins_hz[1])
    trend = gaussian_filter1d(np.log(np.abs(neutral)), 900 / bin_hz, mode="nearest")
    start = int(4_000 / bin_hz)
    wanted = trend[start] - dull / 8.686 * (bins_hz[start:] - bins_hz[start]) / 1_000
    fixed[start:] *= np.exp(wanted - trend[start:])
    whole = np.broadcast_to(fixed.astype(np.complex64), (len(formants_hz), len(bins_hz))).copy()
    for place in range(formants_hz.shape[1]):
        one_hz = formants_hz[:, place, None]
        wide_hz = width * (40 + 0.035 * one_hz + 12 * place)
        below = np.empty(whole.shape, dtype=np.complex64)
        below.real = 1 - squared / np.square(one_hz)
        below.imag = bins_hz * (wide_hz / np.square(one_hz))
        whole /= below
    return whole
