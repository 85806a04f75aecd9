"""When a song will be done: by the word of its worker, else from how far it is and how long songs take of late."""

from collections.abc import Sequence
from dataclasses import dataclass

from stems.jobs import Job, Jobs, now_ms

_TELLING = 0.05  # the part of a song after which its own pace says more than that of others


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is known of the work at one moment. `pace_s`: seconds that a song takes, None where unknown."""

    running: Sequence[Job]
    pace_s: float | None
    now_ms: int

    @classmethod
    def of(cls, jobs: Jobs) -> "Estimates":
        """Look at what runs now."""
        return cls(jobs.running(), jobs.pace_s(), now_ms())

    def seconds(self, job: Job) -> float | None:
        """Return the seconds until a job is done; None where nothing tells, or it has ended."""
        if job.state == "separating":
            left_s = self._left_s(job)
        elif job.state == "waiting" and job.position is not None:
            left_s = self._waiting_s(job.position)
        else:
            left_s = None
        return None if left_s is None else round(left_s, 1)

    def _left_s(self, job: Job) -> float | None:
        if job.left_s is not None:
            return max(job.left_s - (self.now_ms - job.updated_ms) / 1000, 0.0)
        elapsed_s = max(self.now_ms - job.started_ms, 0) / 1000 if job.started_ms else 0.0
        if job.progress >= _TELLING and elapsed_s > 0:
            return elapsed_s * (1 - job.progress) / job.progress
        return None if self.pace_s is None else max(self.pace_s - elapsed_s, 0.0)

    def _waiting_s(self, position: int) -> float | None:
        pace_s = self.pace_s if self.pace_s is not None else self._pace_of_running()
        if pace_s is None:
            return None
        left_s = 0.0
        for job in self.running:
            own_s = self._left_s(job)
            left_s += pace_s if own_s is None else own_s
        # While songs wait, every worker has one: so many as run are worked off at a time.
        return (left_s + (position - 1) * pace_s) / max(len(self.running), 1) + pace_s

    def _pace_of_running(self) -> float | None:
        told = [job for job in self.running if job.progress >= _TELLING and job.started_ms]
        paces_s = [(self.now_ms - job.started_ms) / 1000 / job.progress for job in told]
        return sum(paces_s) / len(paces_s) if paces_s else None
