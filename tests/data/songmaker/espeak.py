"""Syllables that espeak-ng speaks, as spectral envelopes to be sung at any pitch and length.

Method: envelopes after CheapTrick (Morise 2015), kept as cepstra, which interpolate well and give a minimum phase.
"""

import functools
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from tests.data.songmaker.phonemes import PHONES, Doubles, Floats, parsed

PROGRAM = "espeak-ng"
SPOKEN_HZ = 22_050
FRAME_SAMPLES = 110
FRAME_S = FRAME_SAMPLES / SPOKEN_HZ
SPECTRUM = 1024  # at half our rate, so that bins lie where those of 2048 points lie at 44.1 kHz
QUEFRENCIES = 240
# espeak-ng itself fades out from here on; the rest is made up.
KNOWN_HZ = 9_800.0
HEADER_BYTES = 44

ENGLISH = ("en", "en-us", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc")
FOREIGN = ("de", "es", "it", "fr-fr", "pt-br", "nl", "sv", "pl", "fi", "ro", "cs", "tr", "id", "la")
HIGH = "f1 f2 f3 f4 f5 Alicia Andrea Annie belinda linda steph steph2 steph3 anika aunty grandma"
LOW = (
    "m1 m2 m3 m4 m5 m6 m7 m8 adam Alex Andy antonio benjamin boris caleb david Denis Diogo ed edward edward2 gene "
    "Gene2 Gustave Henrique Hugo iven jacky john klatt2 klatt3 kaukovalta Lee marcelo Marco mario max michael Michel "
    "Miguel mike Mr_Serious Nguyen norbert pablo paul pedro quincy rob robert sandro shelby travis victor"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One syllable as frames of 5 ms: onset, nucleus and coda."""

    cepstra: Floats  # (frames, QUEFRENCIES) of the natural log of amplitude, folded: minimum phase
    noise: Floats  # (frames, 2) share of noise below and above 4 kHz
    nucleus: tuple[int, int]  # frames [first, last)

    @property
    def onset_s(self) -> float:
        """Return how long the sounds before the vowel are, in seconds."""
        return self.nucleus[0] * FRAME_S

    @property
    def coda_s(self) -> float:
        """Return how long the sounds after the vowel are, in seconds."""
        return (len(self.cepstra) - self.nucleus[1]) * FRAME_S


def random_voice(high: bool, rng: np.random.Generator) -> str:
    """Draw a voice of espeak-ng: a language and a variant of a woman's or child's (`high`) or a man's throat."""
    language = rng.choice(ENGLISH if rng.random() < 0.6 else FOREIGN)
    return f"{language}+{rng.choice((HIGH if high else LOW).split())}"


def speech(voice: str, text: str) -> Doubles:
    """Return a syllable in phones as espeak-ng speaks it: (samples,) at 22,050 Hz.

    Raises FileNotFoundError without espeak-ng, RuntimeError where it says nothing.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise FileNotFoundError(f"{PROGRAM} is not installed: singers with engine 'espeak' need it (apt-get install)")
    names = text.split()
    if voice.startswith("en"):
        stressed = ["'" * (PHONES[name].kind == "vowel") + PHONES[name].espeak for name in names]
        said = f"[[{''.join(stressed)}]]"
    else:
        said = "".join(PHONES[name].spelling for name in names)
    command = [program, "-v", voice, "-s", "130", "-p", "60", "--stdout", "--", said]
    done = subprocess.run(command, capture_output=True, check=False)
    samples = np.frombuffer(done.stdout[HEADER_BYTES:][: (len(done.stdout) - HEADER_BYTES) // 2 * 2], dtype="<i2")
    if done.returncode or not samples.any():
        raise RuntimeError(f"{PROGRAM} -v {voice} says nothing for {said!r}: {done.stderr.decode(errors='replace')}")
    return samples / 32768


def _periodicity(sound: Doubles, starts: int) -> tuple[Floats, float]:
    """Return how periodic each frame is, (frames,) up to 1, and the pitch of the whole in Hz."""
    window = np.hanning(900)
    frames = sliding_window_view(sound, len(window))[::FRAME_SAMPLES][:starts] * window
    power = np.abs(scipy.fft.rfft(frames, 2048)) ** 2
    bias = scipy.fft.irfft(np.abs(scipy.fft.rfft(window, 2048)) ** 2)
    same = scipy.fft.irfft(power)
    lags = np.arange(SPOKEN_HZ // 400, SPOKEN_HZ // 65)
    ratio = same[:, lags] / (same[:, :1] + 1e-9) * (bias[0] / bias[lags])
    periodic = np.clip(ratio.max(axis=1), 0, 1)
    voiced = periodic > 0.8 * periodic.max()
    # A long lag wins easily by a hair: prefer the first that is nearly as good.
    first = np.argmax(ratio[voiced] > 0.93 * periodic[voiced, None], axis=1)
    return periodic.astype(np.float32), float(SPOKEN_HZ / np.median(lags[first] + 2))


@functools.lru_cache(maxsize=512)
def syllable(voice: str, text: str, shift: float) -> Spoken:
    """Return the envelopes of a syllable, with formants moved up by the factor `shift`."""
    sound = speech(voice, text)
    level = np.abs(sound)
    loud = np.flatnonzero(level > 0.004 * level.max())
    sound = np.pad(sound[loud[0] : loud[-1] + 1], 512) + 1e-6 * np.sin(np.arange(loud[-1] - loud[0] + 1025) ** 2)
    count = (len(sound) - 1024) // FRAME_SAMPLES + 1
    periodic, pitch_hz = _periodicity(np.pad(sound, (0, 512))[512 - 450 :], count)
    size = min(int(3 * SPOKEN_HZ / pitch_hz), SPECTRUM)
    window = np.hanning(size)
    frames = sliding_window_view(np.pad(sound, (0, 512))[512 - size // 2 :], size)[::FRAME_SAMPLES][:count] * window
    power = np.abs(scipy.fft.rfft(frames, SPECTRUM)) ** 2 / np.sum(window**2)
    power = power.astype(np.float32)
    # Its voices have holes between the few formants they have above 4.5 kHz; throats have no such holes.
    filled = np.clip((np.arange(power.shape[1]) * SPOKEN_HZ / SPECTRUM - 3_500) / 2_000, 0, 0.5)
    power = (1 - filled) * power + filled * uniform_filter1d(power, 95, axis=1, mode="reflect")
    power = uniform_filter1d(power, max(int(pitch_hz * 2 / 3 / (SPOKEN_HZ / SPECTRUM)), 1), axis=1, mode="reflect")
    log = 0.5 * np.log(power + 1e-10)
    quefrency_s = np.minimum(np.arange(SPECTRUM), SPECTRUM - np.arange(SPECTRUM)) / SPOKEN_HZ
    lifter = np.sinc(pitch_hz * quefrency_s) * (1.3 - 0.3 * np.cos(2 * np.pi * pitch_hz * quefrency_s))
    log = scipy.fft.rfft(scipy.fft.irfft(log) * lifter).real
    log = _widened(log, shift)
    energy = 0.5 * np.log(np.mean(np.exp(2 * log), axis=1))
    low = 0.5 * np.log(np.mean(np.exp(2 * log[:, 5:110]), axis=1))
    high = 0.5 * np.log(np.mean(np.exp(2 * log[:, 190:460]), axis=1))
    hiss = np.clip((high - low + 2.9) / 1.7, 0, 1)
    rough = np.clip((0.8 - periodic) / 0.4, 0, 1)
    first, last = _nucleus(gaussian_filter1d(low - 3 * rough - 2 * hiss, 1.5), bool(parsed(text)[2]))
    # Creaking vowels are not noise: only consonants are.
    rough[first:last] *= 0.2
    cepstra = scipy.fft.irfft(log)[:, :QUEFRENCIES].astype(np.float32)
    cepstra[:, 1:] *= 2
    cepstra[:, 0] -= np.mean(energy[first:last])
    return Spoken(cepstra, np.stack([rough, np.maximum(rough, hiss)], axis=1).astype(np.float32), (first, last))


def _widened(log: Doubles, shift: float) -> Doubles:
    """Give log spectra (frames, 513) up to 11 kHz twice the band and move them: (frames, 1025)."""
    bin_hz = SPOKEN_HZ / SPECTRUM
    known = int(KNOWN_HZ / bin_hz)
    bins = np.arange(SPECTRUM + 1)
    whole = np.empty((len(log), len(bins)))
    whole[:, :known] = log[:, :known]
    edge = log[:, known - 90 : known].mean(axis=1)
    whole[:, known:] = edge[:, None] - 1.4 * np.log2(bins[known:] / known)
    exact = np.minimum(bins / shift, SPECTRUM - 1)
    left = exact.astype(int)
    part = exact - left
    moved: Doubles = whole[:, left] * (1 - part) + whole[:, left + 1] * part
    return moved


def _nucleus(sonority: Doubles, closed: bool) -> tuple[int, int]:
    """Return the frames of the vowel: those nearly as sonorous as the most sonorous one around it."""
    peak = int(np.argmax(sonority))
    dark = np.flatnonzero(sonority < sonority[peak] - 0.9)
    first = int(max(dark[dark < peak], default=-1)) + 1
    last = int(min(dark[dark > peak], default=len(sonority)))
    if not closed:
        last = max(last, int(0.85 * len(sonority)))
    return min(first, peak), max(last, peak + 2)


def schedule(
    spoken: Sequence[Spoken], first_s: Doubles, start_s: Doubles, vowel_s: Doubles, end_s: Doubles
) -> tuple[Doubles, Doubles]:
    """Return knots in seconds and the frame to be heard there, counted through all syllables laid end to end.

    Vowels are stretched most in their first half, so that diphthongs move at the end.
    """
    times: list[float] = []
    places: list[float] = []
    base = 0
    for place, one in enumerate(spoken):
        a, b = one.nucleus
        long_s, wide = vowel_s[place] - start_s[place], b - a
        entry_s = min(wide * 0.3 * FRAME_S, 0.3 * long_s)
        times += [first_s[place] + 0.002, start_s[place], start_s[place] + entry_s]
        places += [base, base + a, base + a + 0.3 * wide]
        times += [vowel_s[place] - entry_s, vowel_s[place], end_s[place] - 0.002]
        places += [base + a + 0.65 * wide, base + b - 0.5, base + len(one.cepstra) - 1]
        base += len(one.cepstra)
    return np.maximum.accumulate(times), np.array(places)


def shapes(cepstra: Floats, noise: Floats, exact: Doubles, bins_hz: Floats) -> tuple[NDArray[np.complex64], Floats]:
    """Return responses at fractional frames and their share of noise, both (times, bins)."""
    left = np.minimum(exact.astype(int), len(cepstra) - 2)
    part = (exact - left).astype(np.float32)[:, None]
    mixed = cepstra[left] * (1 - part) + cepstra[left + 1] * part
    share = noise[left] * (1 - part) + noise[left + 1] * part
    upper = np.clip((bins_hz - 2_500) / 2_500, 0, 1)
    spread = share[:, :1] * (1 - upper) + share[:, 1:] * upper
    whole = np.exp(scipy.fft.rfft(mixed, 2 * (len(bins_hz) - 1)))
    return whole, np.clip(spread, 0, 1)
