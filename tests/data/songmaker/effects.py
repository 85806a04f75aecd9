"""What a mixing desk does to a sound of shape (2, samples) at 44100 Hz; lengths stay."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, oaconvolve, sosfilt

from tests.data.songmaker.score import RATE_HZ

Sound = NDArray[np.float32]

_BLOCK = 512  # samples that share one gain of a compressor: 12 ms


def loudness(sound: Sound) -> float:
    """Return the RMS of where the sound is playing: of its 0.2-s blocks within 25 dB of the loudest; 0 for silence."""
    size = RATE_HZ // 5
    whole = sound[:, : sound.shape[1] // size * size].reshape(2, -1, size).astype(np.float64)
    power = (whole**2).mean(axis=(0, 2))
    playing = power[power > power.max(initial=0) * 10**-2.5]
    return float(np.sqrt(playing.mean())) if playing.size else 0.0


def peaking(hz: float, gain_db: float, width: float) -> NDArray[np.float64]:
    """Return a bell of an equalizer as (1, 6) second-order section. Source: R. Bristow-Johnson, Audio EQ Cookbook."""
    amplitude, angle = 10 ** (gain_db / 40), 2 * np.pi * hz / RATE_HZ
    alpha, cosine = np.sin(angle) * width / 2, np.cos(angle)
    top = (1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude)
    bottom = (1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude)
    return np.asarray(np.array([[*top, *bottom]]) / bottom[0])


def equalize(sound: Sound, rng: np.random.Generator, most_db: float) -> Sound:
    """Turn two or three bells at random frequencies up or down by up to `most_db`."""
    bells = [
        peaking(
            float(np.exp(rng.uniform(np.log(60), np.log(12000)))), rng.uniform(-most_db, most_db), rng.uniform(0.4, 2)
        )
        for _ in range(int(rng.integers(2, 4)))
    ]
    return np.asarray(sosfilt(np.concatenate(bells), sound), np.float32)


def brighten(sound: Sound, hz: float, gain_db: float) -> Sound:
    """Lift what is above the frequency by up to `gain_db`, as is done to voices that must be heard over a band."""
    treble = sosfilt(butter(1, hz, "highpass", fs=RATE_HZ, output="sos"), sound)
    return np.asarray(sound + treble * (10 ** (gain_db / 20) - 1), np.float32)


def band(sound: Sound, low_hz: float | None, high_hz: float | None) -> Sound:
    """Leave what is between the two frequencies, with second-order slopes."""
    if low_hz is not None:
        sound = sosfilt(butter(2, low_hz, "highpass", fs=RATE_HZ, output="sos"), sound)
    if high_hz is not None:
        sound = sosfilt(butter(2, high_hz, "lowpass", fs=RATE_HZ, output="sos"), sound)
    return np.asarray(sound, np.float32)


def gain_curve(sound: Sound, threshold_db: float, ratio: float, release_s: float) -> NDArray[np.float32]:
    """Return a compressor's gain for every sample; thresholds are relative to the sound's own loudness."""
    blocks = -(-sound.shape[1] // _BLOCK)
    padded = np.pad(sound, ((0, 0), (0, blocks * _BLOCK - sound.shape[1])))
    power = (padded.reshape(2, blocks, _BLOCK).astype(np.float64) ** 2).mean(axis=(0, 2))
    level_db = 10 * np.log10(power + 1e-12) - 20 * np.log10(loudness(sound) + 1e-6)
    wanted_db = -np.maximum(0, level_db - threshold_db) * (1 - 1 / ratio)
    slow, now, gains_db = np.exp(-_BLOCK / RATE_HZ / release_s), 0.0, np.empty(blocks)
    for i, wanted in enumerate(wanted_db):
        now = wanted if wanted < now else wanted + (now - wanted) * slow
        gains_db[i] = now
    centres = (np.arange(blocks) + 0.5) * _BLOCK
    return np.interp(np.arange(sound.shape[1]), centres, 10 ** (gains_db / 20)).astype(np.float32)


def reverberate(sound: Sound, rng: np.random.Generator, seconds: float, wet: float) -> Sound:
    """Add a room: decaying stereo noise whose treble dies sooner."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    early = float(rng.uniform(0.0, 0.03))
    room = rng.normal(size=(2, t.size)).astype(np.float32) * np.exp(-6.9 * t / seconds) * (t > early)
    room = band(room.astype(np.float32), float(rng.uniform(100, 400)), float(rng.uniform(2500, 9000)))
    room /= np.sqrt((room**2).sum() / 2) + 1e-9
    tail = oaconvolve(sound, room, axes=1)[:, : sound.shape[1]]
    return np.asarray(sound + np.float32(wet) * tail, np.float32)


def echo(sound: Sound, seconds: float, feedback: float, wet: float) -> Sound:
    """Add repeats, each softer and on the other side."""
    out, level, step = sound.copy(), wet, max(1, int(seconds * RATE_HZ))
    for i in range(1, 6):
        at = i * step
        if at >= sound.shape[1] or level < 0.02:
            break
        out[:, at:] += np.float32(level) * (sound[::-1, :-at] if i % 2 else sound[:, :-at])
        level *= feedback
    return out


def distort(sound: Sound, drive: float) -> Sound:
    """Saturate as a guitar amplifier does, through a speaker's band."""
    level = loudness(sound) + 1e-6
    return band(np.tanh(sound * np.float32(drive / level)) * np.float32(level), 80, 5500)


def soften(sound: Sound, headroom: float) -> Sound:
    """Round off peaks above `headroom` times the sound's loudness, as tape and limiters do."""
    top = np.float32(headroom * loudness(sound) + 1e-6)
    return np.asarray(top * np.tanh(sound / top), np.float32)


def chorus(sound: Sound, rng: np.random.Generator) -> Sound:
    """Add a copy whose delay wavers, differently on each side."""
    n = sound.shape[1]
    at = np.arange(n, dtype=np.float64)
    rate_hz, depth = rng.uniform(0.2, 1.5), rng.uniform(0.001, 0.004) * RATE_HZ
    out = sound.copy()
    for side in range(2):
        delay = 0.012 * RATE_HZ + depth * np.sin(2 * np.pi * rate_hz * at / RATE_HZ + 2.1 * side)
        out[side] += np.float32(0.6) * np.interp(at - delay, at, sound[side]).astype(np.float32)
    return out


def place(sound: Sound, pan: float, width: float) -> Sound:
    """Pan -1 (left) .. 1 (right) at equal power; `width` 0 makes it mono first, 1 leaves its stereo image."""
    middle, side = sound.mean(axis=0), (sound[0] - sound[1]) / 2
    angle = (pan + 1) * np.pi / 4
    left, right = np.cos(angle) * np.sqrt(2), np.sin(angle) * np.sqrt(2)
    placed = np.stack([left * (middle + width * side), right * (middle - width * side)])
    return np.asarray(placed, np.float32)
