"""Instruments of our own: subtractive, FM and plucked sounds and an electronic drum kit, each drawn from a seed."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from tests.data.songmaker.score import RATE_HZ, Note, Synthesized

Sound = NDArray[np.float32]

_TABLE = 2048
_RELEASE_S = 3.0  # of a drum: they ring out whatever their note says


def play(instrument: Synthesized, notes: Sequence[Note], length: int) -> Sound:
    """Return the notes as (2, length) samples at 44100 Hz, the same in both channels."""
    rng = np.random.default_rng(instrument.seed)
    voice = _kit(rng) if instrument.kind == "kit" else _VOICES[instrument.kind](rng)
    track = np.zeros(length, np.float32)
    known: dict[tuple[int, int], Sound] = {}
    for note in notes:
        size = round(note.duration_s * 50)  # durations are rounded to 20 ms: a sound is made once and used often
        if (note.pitch, size) not in known:
            known[note.pitch, size] = voice(note.pitch, max(1, size) / 50)
        sound = known[note.pitch, size]
        start = round(note.start_s * RATE_HZ)
        sound = sound[: max(0, length - start)]
        track[start : start + sound.size] += note.velocity**1.5 * sound
    return np.stack([track, track]) * np.float32(0.25)


Voice = Callable[[int, float], Sound]


def _time(seconds: float) -> NDArray[np.float64]:
    return np.arange(max(1, int(seconds * RATE_HZ))) / RATE_HZ


def _envelope(
    t: NDArray[np.float64], held_s: float, attack_s: float, decay_s: float, sustain: float, release_s: float
) -> NDArray[np.float64]:
    level = np.minimum(1, t / attack_s) * (sustain + (1 - sustain) * np.exp(-np.maximum(0, t - attack_s) / decay_s))
    return np.asarray(level * np.clip(1 - (t - held_s) / release_s, 0, 1) ** 2)


def _spectrum(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the loudness of 64 harmonics: saw, square, pulse, triangle, organ or anything."""
    k = np.arange(1, 65)
    match int(rng.integers(6)):
        case 0:
            return np.asarray(1 / k)
        case 1:
            return (k % 2) / k
        case 2:
            return np.asarray(np.abs(np.sin(np.pi * k * rng.uniform(0.08, 0.4))) / k)
        case 3:
            return (k % 2) / k**2
        case 4:
            return np.where(np.isin(k, (1, 2, 3, 4, 6, 8, 10, 12, 16)), rng.random(64), 0) / np.sqrt(k)
        case _:
            return rng.random(64) ** 2 / k ** rng.uniform(0.7, 1.6)


def _table(spectrum: NDArray[np.float64], cutoff: float, top: int, phases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one period of the spectrum, low-passed at the harmonic `cutoff`, without harmonics above `top`."""
    k = np.arange(1, 65)
    loud = spectrum / np.sqrt(1 + (k / cutoff) ** 4) * (k <= top)
    bins = np.zeros(_TABLE // 2 + 1, complex)
    bins[1:65] = loud * np.exp(1j * phases)
    wave = np.fft.irfft(bins)
    return np.asarray(wave / (np.abs(wave).max() + 1e-9))


def _subtractive(
    rng: np.random.Generator, attack_s: float, decay_s: float, sustain: float, release_s: float, brightness: float
) -> Voice:
    spectrum, phases = _spectrum(rng), rng.uniform(0, 2 * np.pi, 64)
    cents = rng.normal(0, rng.uniform(0, 12), int(rng.integers(1, 4)))
    bright, dark = brightness * rng.uniform(0.6, 3), brightness * rng.uniform(0.1, 0.6)
    sweep_s = float(rng.uniform(0.05, 0.8))
    vibrato = float(rng.choice((0, rng.uniform(0.001, 0.006))))
    rate_hz = float(rng.uniform(4, 7))

    def voice(pitch: int, held_s: float) -> Sound:
        t = _time(held_s + release_s)
        hz = 440 * 2 ** ((pitch - 69) / 12)
        top = int(16000 / hz)
        tables = [_table(spectrum, 1 + cut * 1500 / hz, top, phases) for cut in (bright, dark)]
        opening = np.exp(-t / sweep_s)
        wave = np.zeros(t.size)
        turn = vibrato * np.sin(2 * np.pi * rate_hz * t) / (2 * np.pi * rate_hz)
        for i, cent in enumerate(cents):
            index = ((hz * 2 ** (cent / 1200) * (t + turn) + 0.37 * i) % 1) * _TABLE
            at = index.astype(np.int64)
            part = index - at
            for table, share in zip(tables, (opening, 1 - opening), strict=True):
                wave += share * ((1 - part) * table[at] + part * table[(at + 1) % _TABLE])
        return np.asarray(wave * _envelope(t, held_s, attack_s, decay_s, sustain, release_s) / cents.size, np.float32)

    return voice


def _fm(rng: np.random.Generator, decay_s: float) -> Voice:
    ratio = float(rng.choice((1, 2, 3, 0.5, 1.41, 3.5, 7, 14)))
    index, quick_s = float(rng.uniform(0.5, 5)), float(rng.uniform(0.05, 1))

    def voice(pitch: int, held_s: float) -> Sound:
        t = _time(held_s + 0.3)
        angle = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t
        depth = min(index, 12000 / (440 * 2 ** ((pitch - 69) / 12) * ratio))
        wave = np.sin(angle + depth * np.exp(-t / quick_s) * np.sin(ratio * angle))
        return np.asarray(wave * _envelope(t, held_s, 0.004, decay_s, 0.1, 0.25), np.float32)

    return voice


def _string(rng: np.random.Generator, decay_s: float) -> Voice:
    """A plucked string: partials a little too sharp, the upper ones dying first, notched by where it was plucked."""
    where, stiff = float(rng.uniform(0.08, 0.45)), float(rng.choice((0, 1e-4, 4e-4)))
    damp, slope = float(rng.uniform(0.3, 3)), float(rng.uniform(0.6, 1.4))

    def voice(pitch: int, held_s: float) -> Sound:
        t = _time(held_s + 0.25)
        hz = 440 * 2 ** ((pitch - 69) / 12)
        wave = np.zeros(t.size)
        for k in range(1, max(2, min(26, int(12000 / hz)))):
            partial = hz * k * np.sqrt(1 + stiff * k * k)
            loud = abs(np.sin(np.pi * k * where)) / k**slope
            wave += loud * np.exp(-t * (1 + damp * k * 0.35) / decay_s) * np.sin(2 * np.pi * partial * t + k)
        return np.asarray(wave * _envelope(t, held_s, 0.002, 10.0, 0.9, 0.2), np.float32)

    return voice


def _bass_voice(rng: np.random.Generator) -> Voice:
    kind = rng.random()
    if kind < 0.3:
        return _string(rng, float(rng.uniform(0.8, 2.5)))
    if kind < 0.45:
        return _fm(rng, float(rng.uniform(0.5, 2)))
    return _subtractive(rng, 0.005, float(rng.uniform(0.1, 1)), float(rng.uniform(0.3, 1)), 0.06, rng.uniform(0.2, 1))


def _pad_voice(rng: np.random.Generator) -> Voice:
    return _subtractive(rng, float(rng.uniform(0.03, 0.5)), 1.0, 0.8, float(rng.uniform(0.2, 0.8)), rng.uniform(0.3, 2))


def _pluck_voice(rng: np.random.Generator) -> Voice:
    kind = rng.random()
    if kind < 0.5:
        return _string(rng, float(rng.uniform(0.4, 2.5)))
    if kind < 0.75:
        return _fm(rng, float(rng.uniform(0.3, 1.5)))
    return _subtractive(rng, 0.003, float(rng.uniform(0.08, 0.5)), 0.05, 0.15, rng.uniform(0.5, 3))


def _lead_voice(rng: np.random.Generator) -> Voice:
    return _subtractive(
        rng, float(rng.uniform(0.004, 0.06)), 0.5, float(rng.uniform(0.5, 1)), 0.08, rng.uniform(0.5, 4)
    )


_VOICES: dict[str, Callable[[np.random.Generator], Voice]] = {
    "bass": _bass_voice,
    "pad": _pad_voice,
    "pluck": _pluck_voice,
    "lead": _lead_voice,
}


def _kit(rng: np.random.Generator) -> Voice:
    """An electronic kit: swept sines for kick and toms, filtered noise and squares for the rest, seven families."""
    shape = {name: float(rng.random()) for name in ("kick", "sweep", "long", "snare", "bright", "metal", "dirt")}
    noise = rng.normal(size=int(_RELEASE_S * RATE_HZ))
    squares = rng.uniform(2500, 9000, 6)

    def filtered(low_hz: float, high_hz: float, t: NDArray[np.float64]) -> NDArray[np.float64]:
        sos = butter(2, (low_hz, min(high_hz, 20000)), "bandpass", fs=RATE_HZ, output="sos")
        return np.asarray(sosfilt(sos, noise[: t.size])) * 2

    def thump(hz: float, sweep: float, bend: float, decay: float, t: NDArray[np.float64]) -> NDArray[np.float64]:
        angle = 2 * np.pi * (hz * t + hz * sweep / bend * (1 - np.exp(-bend * t)))
        return np.asarray(np.sin(angle) * np.exp(-decay * t))

    def metal(decay: float, t: NDArray[np.float64]) -> NDArray[np.float64]:
        ring = sum(np.sign(np.sin(2 * np.pi * hz * t)) for hz in squares)
        low = 4000 + 4000 * shape["bright"]
        sos = butter(2, low, "highpass", fs=RATE_HZ, output="sos")
        mixed = shape["metal"] * 0.25 * ring + (1 - shape["metal"]) * noise[: t.size]
        return np.asarray(sosfilt(sos, mixed) * np.exp(-decay * t))

    def kick() -> NDArray[np.float64]:
        t = _time(0.9)
        body = thump(
            42 + 25 * shape["kick"], 1 + 5 * shape["sweep"], 25 + 40 * shape["sweep"], 4 + 14 * shape["long"], t
        )
        click = filtered(1200, 9000, t) * np.exp(-220 * t) * shape["bright"]
        return np.asarray(np.tanh((1 + 3 * shape["dirt"]) * body) + 0.5 * click)

    def snare() -> NDArray[np.float64]:
        t = _time(0.6)
        wood = thump(150 + 90 * shape["kick"], 0.7, 40, 18, t)
        rattle = filtered(900, 13000, t) * np.exp(-(9 + 18 * shape["long"]) * t)
        return np.asarray(wood * (1 - 0.6 * shape["snare"]) + rattle)

    def clap() -> NDArray[np.float64]:
        t = _time(0.5)
        burst = filtered(800, 4500, t) * np.exp(-26 * t)
        return np.asarray(
            sum(np.roll(burst, int(0.011 * RATE_HZ) * i) * (np.arange(t.size) > 500 * i) for i in range(3))
        )

    def voice(drum: int, held_s: float) -> Sound:
        if drum in (35, 36):
            sound = kick()
        elif drum in (38, 40):
            sound = snare()
        elif drum == 39:
            sound = clap()
        elif drum in (41, 43, 45, 47, 48, 50, 60, 61, 62, 63, 64):
            t = _time(0.8)
            sound = thump(60 * 2 ** ((drum - 41) / 10) + 30, 0.6, 18, 7 + 6 * shape["long"], t) + 0.1 * metal(60, t)
        elif drum in (46, 51, 53, 59):
            sound = 0.7 * metal(5 + 8 * shape["long"], _time(1.0))
        elif drum in (49, 57):
            sound = 0.8 * metal(2 + 2 * shape["long"], _time(2.5))
        elif drum in (37, 56, 75, 76):
            t = _time(0.2)
            sound = thump(800 + 900 * shape["kick"], 0.1, 50, 45, t)
        else:
            t = _time(0.25)
            sound = 0.6 * metal(30 + 50 * shape["long"], t)
        return np.asarray(sound, np.float32)

    return voice
