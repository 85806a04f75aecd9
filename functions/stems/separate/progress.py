"""Progress of jobs on its way to Redis, from a thread of its own: a Redis that hangs must not hold up a song."""

import logging
import threading

from stems.errors import StateUnavailable
from stems.jobs import Jobs

_log = logging.getLogger(__name__)


class Progress:
    """Tells Redis what was said last of each job; what is overtaken meanwhile is not told."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._latest: dict[str, dict[str, str | int | float]] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._send, name="progress", daemon=True).start()

    def tell(self, job: str, **values: str | int | float) -> None:
        """Note fields of a job for Redis, and return at once."""
        with self._news:
            self._latest[job] = self._latest.get(job, {}) | values
            self._news.notify()

    def _send(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._latest)
                latest, self._latest = self._latest, {}
            for job, values in latest.items():
                try:
                    self._jobs.update(job, **values)
                except StateUnavailable as error:
                    _log.warning("progress not told: %s", error)
