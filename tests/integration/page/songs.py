"""Stems that look like music on a picture, and jobs in line."""

from collections.abc import Mapping

import numpy as np
import torch

from stems import naming
from stems.separate.peaks import Peaks
from tests.browser import RATE_HZ, Samples
from tests.tracks_stack import Stack


def music(seed: int, duration_s: float) -> dict[str, Samples]:
    """Make drums, bass, other and vocals, each of shape (samples, 2)."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ

    def course(points: int, low: float) -> Samples:
        """Return a gain that wanders between `low` and 1; silent while it is below 0."""
        return np.interp(time_s, np.linspace(0, duration_s, points), random.uniform(low, 1, points)).clip(0)

    made = {
        "drums": 0.35 * random.standard_normal(len(time_s)) * np.exp(-(time_s % 0.5) * 9) * course(8, 0.4),
        "bass": 0.45 * np.sin(2 * np.pi * 55 * time_s) * course(60, 0.2),
        "other": 0.3 * np.sin(2 * np.pi * 220 * time_s) * course(30, 0.1),
        "vocals": 0.5 * np.sin(2 * np.pi * 330 * time_s) * course(25, -0.8),
    }
    return {stem: np.stack([samples, samples], axis=1) for stem, samples in made.items()}


def drawn(stems: Mapping[str, Samples]) -> dict[str, list[int]]:
    """Return the peaks of stems as `separate` makes them."""
    peaks = Peaks(len(next(iter(stems.values()))))
    peaks.add(0, {stem: torch.from_numpy(samples.T.astype(np.float32)) for stem, samples in stems.items()})
    return peaks.shares(1.0)


def queued(stack: Stack, name: str, state: str, **values: object) -> str:
    """Enter a job as the relay does."""
    key = f"in/{name}"
    job = naming.job_id("queue", key, "e")
    fields = {"bucket": "queue", "key": key, "etag": "e", "uploaded_ms": 1_700_000_000_000, **values}
    stack.redis.hset(naming.job_key(job), mapping={"state": state, **fields})
    return job
