"""What the larynx does: the pitch that is sung, and the pulses and the breath that come from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tests.data.songmaker.lyrics import Syllable
from tests.data.songmaker.phonemes import RATE_HZ, Doubles, Floats

CONTROL_SAMPLES = 64  # pitch is computed at every 64th sample
TABLE_SAMPLES = 4096
TABLE_LEVELS = 12
LOWEST_HZ = 50.0
BAND_HZ = 17_500.0


@dataclass(frozen=True, slots=True)
class Larynx:
    """How one singer moves pitch, and how regular the pulses are."""

    vibrato_hz: float
    vibrato_cents: float
    vibrato_delay_s: float
    portamento_s: float
    scoop_chance: float
    scoop_semitones: float
    fall_chance: float
    drift_cents: float
    speech: float  # 0 sings the melody, 1 speaks
    jitter: float  # of a pulse's length
    shimmer: float  # of a pulse's height
    rasp: float  # every other pulse is weaker, 0 to 1
    growl: float  # depth of a slow roughness, 0 to 1
    growl_hz: float
    open_quotient: float  # how much of a period the glottis is open


def wandering(size: int, step: float, rng: np.random.Generator) -> Doubles:
    """Return smooth noise (size,) of unit variance that takes about `step` samples to change."""
    knots = rng.standard_normal(int(size / step) + 4)
    drift: Doubles = np.interp(np.arange(size) / step + rng.random(), np.arange(len(knots)), knots)
    return drift * 1.22


def sung_pitch(
    syllables: Sequence[Syllable],
    onsets_s: Doubles,
    ends_s: Doubles,
    larynx: Larynx,
    size: int,
    rng: np.random.Generator,
) -> Doubles:
    """Return MIDI pitch (size,) at every `CONTROL_SAMPLES`; times count from sample 0."""
    per_s = RATE_HZ / CONTROL_SAMPLES
    at_s = np.arange(size) / per_s
    starts_s = np.array([one.start_s for one in syllables])
    notes = np.array([one.pitch for one in syllables])
    written = notes
    notes = notes + larynx.speech * (0.65 * (np.median(notes) - notes) + rng.uniform(-2, 2, len(notes)))
    glide_s = larynx.portamento_s * rng.uniform(0.6, 1.5, len(notes))
    glide_s = np.minimum(glide_s, 0.5 * np.maximum(np.diff(starts_s, prepend=-9), 0.02))
    knots_s = np.stack([starts_s - 0.6 * glide_s, starts_s + 0.4 * glide_s], axis=1).ravel()[1:]
    pitch = np.interp(at_s, np.maximum.accumulate(knots_s), np.repeat(notes, 2)[:-1])
    pitch = gaussian_filter1d(pitch, 0.012 * per_s, mode="nearest")
    depth = np.zeros(size)
    for place, start_s in enumerate(starts_s):
        a, b = int(max(start_s - 0.05, 0) * per_s), int(ends_s[place] * per_s)
        after_s = at_s[a:b] - start_s
        rise_s = 0.15 + 0.2 * rng.random()
        onset = np.clip((after_s - larynx.vibrato_delay_s * rng.uniform(0.7, 1.4)) / rise_s, 0, 1)
        depth[a:b] = np.maximum(depth[a:b], onset * rng.uniform(0.6, 1.1))
        first = place == 0 or onsets_s[place] > ends_s[place - 1] + 0.01
        if rng.random() < larynx.scoop_chance * (1 if first else 0.35):
            scoop = -larynx.scoop_semitones * rng.uniform(0.4, 1.2)
            pitch[a:b] += scoop * np.exp(-np.maximum(after_s, 0) / rng.uniform(0.03, 0.09))
        last = place == len(starts_s) - 1 or onsets_s[place + 1] > ends_s[place] + 0.01
        if rng.random() < larynx.fall_chance * last:
            pitch[a:b] -= rng.uniform(1, 4) * np.clip(1 - (ends_s[place] - at_s[a:b]) / 0.15, 0, 1)
        if larynx.speech:
            pitch[a:b] += larynx.speech * rng.uniform(-5, 2) * (after_s / (0.25 + ends_s[place] - start_s))
    depth = gaussian_filter1d(depth, 0.03 * per_s)
    rate_hz = larynx.vibrato_hz * (1 + 0.05 * wandering(size, 0.4 * per_s, rng))
    swing = np.sin(2 * np.pi * (np.cumsum(rate_hz) / per_s + rng.random()))
    pitch += (1 - larynx.speech) * depth * larynx.vibrato_cents / 100 * swing
    pitch += (
        larynx.drift_cents / 100 * (0.7 * wandering(size, 0.5 * per_s, rng) + 0.4 * wandering(size, 0.1 * per_s, rng))
    )
    sung: Doubles = np.clip(pitch, 30, max(100.0, float(written.max()) + 2))
    return sung


def pulse_tables(open_quotient: float, flat: bool) -> Floats:
    """Return one period (levels, samples + 1) with ever fewer harmonics, half an octave from level to level.

    `flat` gives impulses; else the derivative of the flow after Klatt & Klatt 1990, with unit RMS.
    """
    at = np.arange(TABLE_SAMPLES) / TABLE_SAMPLES / open_quotient
    flow = np.where(at < 1, 2 * at - 3 * at**2, 0)
    spectrum = np.fft.rfft(flow)
    if flat:  # with the power per Hz of white noise of unit variance, once multiplied by sqrt(Hz)
        spectrum = np.full(len(spectrum), TABLE_SAMPLES / 2 * np.sqrt(2 / (RATE_HZ / 2)), dtype=np.complex128)
    else:
        spectrum *= TABLE_SAMPLES / np.sqrt(2 * np.sum(np.abs(spectrum[1:]) ** 2))
    spectrum[0] = 0
    made = np.zeros((TABLE_LEVELS, TABLE_SAMPLES + 1), dtype=np.float32)
    for level in range(TABLE_LEVELS):
        kept = int(BAND_HZ / (LOWEST_HZ * 2 ** ((level + 1) / 2)))
        made[level, :-1] = np.fft.irfft(np.where(np.arange(len(spectrum)) <= kept, spectrum, 0), TABLE_SAMPLES)
    made[:, -1] = made[:, 0]
    return made


def pulses(pitch: Doubles, size: int, larynx: Larynx, flat: bool, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return pulses (size,) at a pitch per `CONTROL_SAMPLES`, and how open the glottis is, 0 to 1."""
    at = np.arange(size, dtype=np.float64) / CONTROL_SAMPLES
    steps = np.arange(len(pitch))
    pitch_hz = 440 * 2 ** ((pitch - 69) / 12)
    pitch_hz *= 1 + larynx.jitter * wandering(len(pitch), RATE_HZ / CONTROL_SAMPLES / 150, rng)
    hz = np.interp(at, steps, pitch_hz)
    turns = np.cumsum(hz) / RATE_HZ
    period = turns.astype(np.int32)
    phase = (turns - period).astype(np.float32)
    table = pulse_tables(larynx.open_quotient, flat)
    octaves = np.log2(np.maximum(pitch_hz, LOWEST_HZ) / LOWEST_HZ) * 2
    level = np.minimum(octaves, TABLE_LEVELS - 1).astype(np.int32)
    base = level[np.minimum(at, len(pitch) - 1).astype(np.int32)] * (TABLE_SAMPLES + 1)
    exact = phase * TABLE_SAMPLES
    whole = exact.astype(np.int32)
    flattened = table.ravel()
    left = flattened[base + whole]
    pulse = left + (flattened[base + whole + 1] - left) * (exact - whole)
    count = int(period[-1]) + 1
    heights = 1 + larynx.shimmer * rng.standard_normal(count)
    if larynx.rasp:
        depth = larynx.rasp * np.clip(0.5 + wandering(count, 25, rng), 0, 1.2)
        heights *= 1 - depth * (np.arange(count) % 2) + 0.35 * depth * rng.standard_normal(count)
    pulse *= np.maximum(heights, 0)[period].astype(np.float32)
    if larynx.growl:
        slow = np.cumsum(larynx.growl_hz * (1 + 0.15 * wandering(len(pitch), 20, rng))) * CONTROL_SAMPLES / RATE_HZ
        rough = 1 - larynx.growl * (0.5 + 0.5 * np.sin(2 * np.pi * slow))
        pulse *= np.interp(at, steps, rough).astype(np.float32)
    if flat:
        pulse *= np.sqrt(hz).astype(np.float32)
    opening = np.maximum(np.sin(np.pi * phase / np.float32(larynx.open_quotient)), 0)
    return pulse, opening.astype(np.float32)
