"""How near a delivered stem comes to the true one, where that is known."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stems.errors import StemsError
from stems.separate.audio import ffmpeg

RATE_HZ = 44100
_LEAST = 1e-10


def compare(truth: Path, delivered: Path, gain_db: float = 0.0) -> float:
    """Return the SDR in dB of a delivered file against the file of the true stem.

    `gain_db` is what the record says the stem was changed by. Raises StemsError for a file that cannot be decoded or
    whose length is another one.
    """
    true, estimate = samples(truth), samples(delivered) * 10 ** (-gain_db / 20)
    if abs(len(true) - len(estimate)) > RATE_HZ // 100:
        raise StemsError(f"{delivered} has {len(estimate)} samples, {truth} has {len(true)}")
    length = min(len(true), len(estimate))
    return sdr_db(true[:length], estimate[:length])


def sdr_db(truth: NDArray[Any], estimate: NDArray[Any]) -> float:
    """Return the signal-to-distortion ratio in dB of arrays of one shape; 0 is no better than silence.

    Source: Music Demixing Challenge 2021, https://arxiv.org/abs/2108.13559.
    """
    error = estimate.astype(np.float64) - truth
    return float(10 * np.log10((np.square(truth, dtype=np.float64).sum() + _LEAST) / (np.square(error).sum() + _LEAST)))


def samples(path: Path) -> NDArray[np.float32]:
    """Return an audio file as (samples, 2) at 44100 Hz, an MP3 without its encoder's delay."""
    command = [ffmpeg(), "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "2", "-ar", str(RATE_HZ), "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise StemsError(f"{path} cannot be decoded: {done.stderr.decode(errors='replace').strip()}")
    return np.frombuffer(done.stdout, np.float32).reshape(-1, 2)
