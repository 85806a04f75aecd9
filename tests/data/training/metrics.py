"""Measures of a separated stem against the true one, both of shape (channels, samples); in dB, higher is better."""

import math

import numpy as np
from numpy.typing import NDArray

from stems_local.quality import sdr_db

__all__ = ["bss_sdr_db", "sdr_db", "si_sdr_db", "silent"]

Sound = NDArray[np.float32]

_SILENT_RMS = 1e-4  # -80 dB of full scale
_LEAST = 1e-10
_EXACT = 1e-12


def silent(stem: Sound) -> bool:
    """Tell whether a stem has no sound worth measuring: less than -80 dB of full scale."""
    return bool(np.sqrt(np.mean(np.square(stem, dtype=np.float64))) < _SILENT_RMS)


def si_sdr_db(truth: Sound, estimate: Sound) -> float:
    """Return the scale-invariant SDR: that of the estimate's part along `truth` against the rest.

    https://arxiv.org/abs/1811.02508
    """
    exact = truth.astype(np.float64)
    target = exact * (float(np.vdot(exact, estimate)) / max(float(np.vdot(exact, exact)), _LEAST))
    return sdr_db(target, estimate)


def bss_sdr_db(truth: Sound, estimate: Sound, window: int = 44100) -> float:
    """Return the SDR of BSS Eval v4: the median over windows without overlap, those with silence left out.

    In version 4 the errors of space, interference and artefacts add up to the estimate minus the truth, so that SDR
    needs no distortion filter: the same as `museval.evaluate(mode="v4")` gives, to rounding. Where any stem is silent
    museval leaves a window out for all stems, here only for those that are. NaN where every window is left out.
    https://arxiv.org/abs/1804.06267
    """
    count = truth.shape[-1] // window
    shape = (len(truth), count, window)
    true, guess = (each[:, : count * window].reshape(shape).astype(np.float64) for each in (truth, estimate))
    heard = true.any(axis=(0, 2)) & guess.any(axis=(0, 2))
    power = np.square(true).sum(axis=(0, 2))[heard]
    error = np.maximum(np.square(guess - true).sum(axis=(0, 2))[heard], _EXACT * power)
    return float(np.median(10 * np.log10(power / error))) if len(power) else math.nan
