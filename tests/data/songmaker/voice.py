"""A voice that sings syllables: pulses and noise shaped by a vocal tract, either of formants or learnt from espeak-ng.

Method: source and filter (Fant 1960). The source is made for a whole phrase at once, then filtered frame by frame in
the short-time Fourier domain.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tests.data.songmaker import espeak, phonemes
from tests.data.songmaker.glottis import CONTROL_SAMPLES, pulses, sung_pitch
from tests.data.songmaker.lyrics import Syllable, lyrics
from tests.data.songmaker.phonemes import RATE_HZ, Doubles, Floats, Part
from tests.data.songmaker.singer import Singer, random_singer

__all__ = ["Singer", "Syllable", "lyrics", "random_singer", "sing"]

WINDOW, HOP, BINS = 1024, 256, 1025
BINS_HZ = np.linspace(0, RATE_HZ / 2, BINS, dtype=np.float32)
CHUNK_FRAMES = 256  # bounds memory
PEAK = 0.5
LEAD_S, TAIL_S = 1.0, 0.15  # what a phrase takes before its first vowel and after its last


def sing(syllables: Sequence[Syllable], singer: Singer, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Sing syllables into a mono track (length,) at 44.1 kHz with its peak at 0.5, silent in rests.

    Raises ValueError for a text that is no syllable, FileNotFoundError where espeak-ng is needed and missing.
    """
    track = np.zeros(length, dtype=np.float32)
    for phrase in _phrases(sorted(syllables, key=lambda one: one.start_s)):
        first = int(RATE_HZ * (phrase[0].start_s - LEAD_S))
        moved = [replace(one, start_s=one.start_s - first / RATE_HZ) for one in phrase]
        made = _phrase(moved, singer, rng)
        a, b = max(first, 0), min(first + len(made), length)
        if a < b:
            track[a:b] += made[a - first : b - first]
    peak = float(np.max(np.abs(track), initial=0))
    return track * np.float32(PEAK / peak) if peak else track


def _phrases(syllables: Sequence[Syllable]) -> Iterator[list[Syllable]]:
    """Part syllables where there is time to breathe."""
    phrase: list[Syllable] = []
    for one in syllables:
        rest_s = one.start_s - phrase[-1].start_s - phrase[-1].duration_s if phrase else 0
        if rest_s > 0.4:
            yield phrase
            phrase = []
        phrase.append(one)
    if phrase:
        yield phrase


def _phrase(syllables: Sequence[Syllable], singer: Singer, rng: np.random.Generator) -> Floats:
    """Sing one phrase, whose first vowel starts after `LEAD_S`; returns (samples,)."""
    texts = [phonemes.parsed(one.text) for one in syllables]
    starts_s = np.array([one.start_s for one in syllables])
    durations_s = np.array([one.duration_s for one in syllables])
    learnt = singer.engine == "espeak"
    spoken = [espeak.syllable(singer.espeak_voice, one.text, singer.shift) for one in syllables] if learnt else []
    onsets_s = [one.onset_s for one in spoken] or [phonemes.duration_s(onset) for onset, _, _ in texts]
    codas_s = [one.coda_s for one in spoken] or [phonemes.duration_s(coda) for _, _, coda in texts]
    first_s, vowel_s, end_s = phonemes.spans(
        starts_s, durations_s, np.array(onsets_s) * singer.speed, np.array(codas_s) * singer.speed
    )
    size = int((end_s[-1] + TAIL_S) * RATE_HZ) // HOP * HOP
    at_s = np.arange(size) / RATE_HZ
    frames_s = (np.arange(size // HOP + WINDOW // HOP - 1) * HOP - WINDOW / 2 + HOP) / RATE_HZ
    pitch = sung_pitch(syllables, first_s, end_s, singer.larynx, size // CONTROL_SAMPLES + 1, rng)
    pulse, opening = pulses(pitch, size, singer.larynx, learnt, rng)
    noise, hiss = rng.standard_normal((2, size), dtype=np.float32)
    knots_s, gains, efforts = _loudness(syllables, singer, first_s, end_s, rng)
    gain = np.interp(at_s, knots_s, gains).astype(np.float32)
    sung = np.interp(frames_s * RATE_HZ / CONTROL_SAMPLES, np.arange(len(pitch)), pitch)
    light = 1 / (1 + np.exp(-2 * (sung - singer.break_pitch)))
    effort: Doubles = np.interp(frames_s, knots_s, efforts) - 0.4 * light
    breath = singer.breath * (0.25 + opening)
    intake = _intake(singer, first_s[0], at_s, rng)
    if learnt:
        times_s, heard = espeak.schedule(spoken, first_s, starts_s, vowel_s, end_s)
        gate = np.interp(at_s, *_gate(first_s, end_s)).astype(np.float32) * gain
        voiced = (pulse * np.float32(singer.voicing) + breath * noise * 3) * gate
        hiss *= gate * (0.6 + 0.4 * opening) + intake
        sounds = np.concatenate([one.cepstra for one in spoken])
        noises = np.concatenate([one.noise for one in spoken])
        exact = np.interp(frames_s, times_s, heard)

        def filters(part: slice) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
            shapes, share = espeak.shapes(sounds, noises, exact[part], BINS_HZ)
            shapes *= _colour(effort[part], 4_000)
            return shapes * np.sqrt(1 - share), shapes * np.sqrt(share) * np.float32(singer.sibilance)
    else:
        made: list[Part] = []
        for place, (onset, vowel, coda) in enumerate(texts):
            made += phonemes.parts(onset, first_s[place], starts_s[place], vowel)
            made += phonemes.parts([vowel], starts_s[place], vowel_s[place], vowel)
            made += phonemes.parts(coda, vowel_s[place], end_s[place], vowel)
        moves = phonemes.tracks(made, singer.transition_s)
        voicing, aspiration, frication = phonemes.sampled(at_s, moves.levels_at_s, moves.levels).T
        voiced = gain * (voicing * (pulse * np.float32(singer.voicing) + breath * noise) + 0.12 * aspiration * noise)
        voiced += intake * noise * np.float32(0.3)
        hiss *= gain * frication * np.float32(0.4 * singer.sibilance) * (1 - voicing * (1 - opening))
        places = phonemes.sampled(frames_s, moves.at_s, moves.places)
        accent = np.array(singer.accent, dtype=np.float32) * np.float32(singer.tract)
        places[:, :3] *= accent
        # Singers lower the jaw where the pitch would pass the first formant.
        sung_hz = 440 * 2 ** ((sung - 69) / 12)
        places[:, 0] = np.maximum(places[:, 0], np.minimum(sung_hz * 1.05, 1100))

        def filters(part: slice) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
            return _formants(singer, places[part], effort[part])

    return _filtered(voiced, hiss, filters, size)


def _loudness(
    syllables: Sequence[Syllable], singer: Singer, first_s: Doubles, end_s: Doubles, rng: np.random.Generator
) -> tuple[Doubles, Doubles, Doubles]:
    """Return knots in seconds, the gain and the effort there: notes swell or fade a little."""
    velocity = np.clip([one.velocity for one in syllables], 0.02, 1)
    knots_s = np.stack([first_s + 0.01, np.maximum(end_s - 0.02, first_s + 0.011)], axis=1).ravel()
    fade = rng.uniform(0.6, 1.1, len(syllables))
    gains = velocity**singer.dynamics
    efforts = singer.effort + singer.effort_span * (velocity - 0.6)
    both = np.stack([efforts, efforts - 0.3 * (1 - fade)], axis=1).ravel()
    return np.maximum.accumulate(knots_s), np.stack([gains, gains * fade], axis=1).ravel(), both


def _gate(first_s: Doubles, end_s: Doubles) -> tuple[Doubles, Doubles]:
    """Return knots in seconds and levels there, 1 inside syllables and 0 in the gaps between them."""
    knots, levels = [first_s[0] - 0.005], [0.0]
    for place, (a, b) in enumerate(zip(first_s, end_s, strict=True)):
        if place and a > end_s[place - 1] + 0.005:
            knots += [end_s[place - 1], min(end_s[place - 1] + 0.04, a - 0.003), a - 0.002]
            levels += [1.0, 0.0, 0.0]
        knots += [a, max(a, b - 0.03)]
        levels += [1.0, 1.0]
    return np.array([*knots, end_s[-1] + 0.03]), np.array([*levels, 0.0])


def _intake(singer: Singer, until_s: float, at_s: Doubles, rng: np.random.Generator) -> Floats:
    """Return the level of the breath taken before a phrase (samples,)."""
    length_s = min(rng.uniform(0.2, 0.5), until_s - 0.06)
    if not singer.intake or length_s < 0.1 or rng.random() < 0.25:
        return np.zeros(len(at_s), dtype=np.float32)
    after = (at_s - (until_s - 0.04 - length_s)) / length_s
    shape = np.where((after > 0) & (after < 1), np.sin(np.pi * np.clip(after, 0, 1) ** 1.5), 0)
    return (singer.intake * shape).astype(np.float32)


def _colour(effort: Doubles, middle_hz: float) -> Floats:
    """Return the source's tilt (frames, bins): the harder the effort, the brighter, around `middle_hz`."""
    corner_hz = middle_hz * 2.0 ** (5 * (np.clip(effort, -0.2, 1.2) - 0.5))
    tilt = 1 / np.sqrt(1 + np.square(BINS_HZ / corner_hz[:, None]))
    made: Floats = tilt.astype(np.float32)
    return made


def _formants(singer: Singer, places: Floats, effort: Doubles) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return the tract's response to the voice and to the noise of consonants, both (frames, bins)."""
    whole = phonemes.response(places[:, :3], singer.width, singer.upper_hz, singer.dull, BINS_HZ)
    tilt = _colour(effort, 2_500)
    fixed = np.ones(BINS, dtype=np.float32)
    for hz in singer.notches_hz:
        fixed *= 1 - 0.8 * np.exp(-0.5 * np.square((BINS_HZ - hz) / 350))
    ring_hz = 2_900 * singer.tract**0.6
    fixed *= 1 + 2.5 * singer.ring * np.exp(-0.5 * np.square((BINS_HZ - ring_hz) / 400))
    tilt *= fixed
    nasal = np.maximum(places[:, 5:], singer.nasality)
    hole = 0.85 * np.exp(-0.5 * np.square((BINS_HZ - 950 * singer.tract) / 280))
    tilt *= (1 - nasal * hole) / np.sqrt(1 + nasal * np.square(BINS_HZ / 1_500))
    whole *= tilt
    # As loud as the ear would have it: open vowels would drown closed ones.
    level = np.sqrt(np.mean(np.square(np.abs(whole[:, 4:200])) / np.square(1 + BINS_HZ[4:200] / 300), axis=1))
    whole *= ((0.5 / level) ** singer.evenness)[:, None].astype(np.float32)
    octaves = np.log2(np.maximum(BINS_HZ, 50))
    away = (octaves - places[:, 3:4] - 0.5 * np.log2(singer.tract)) / places[:, 4:5]
    hiss = np.exp(-0.5 * np.square(np.where(away > 0, 0.8 * away, away))).astype(np.complex64)
    hiss *= np.exp(-1j * np.pi * np.arange(BINS) / BINS * 64)
    return whole, hiss


def _filtered(
    voiced: Floats,
    hiss: Floats,
    filters: Callable[[slice], tuple[NDArray[np.complex64], NDArray[np.complex64]]],
    size: int,
) -> Floats:
    """Filter two sources (size,) by responses per frame and add them up, some hundred frames at a time."""
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32) / 2
    margin = WINDOW - HOP
    framed = [sliding_window_view(np.pad(one, margin), WINDOW)[::HOP] for one in (voiced, hiss)]
    count = len(framed[0])
    out = np.zeros((count + 2 * (BINS - 1) // HOP, HOP), dtype=np.float32)
    for first in range(0, count, CHUNK_FRAMES):
        part = slice(first, min(first + CHUNK_FRAMES, count))
        total = np.zeros((part.stop - first, BINS), dtype=np.complex64)
        for frames, shape in zip(framed, filters(part), strict=True):
            total += scipy.fft.rfft(frames[part] * window, 2 * (BINS - 1)) * shape
        made = scipy.fft.irfft(total)
        for block in range(2 * (BINS - 1) // HOP):
            out[first + block : part.stop + block] += made[:, block * HOP : (block + 1) * HOP]
    return out.ravel()[margin : margin + size]
