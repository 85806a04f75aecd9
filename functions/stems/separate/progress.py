"""Progress of jobs on its way to Redis, from a thread of its own: a Redis that hangs must not hold up a song."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context

from stems.errors import Cancelled, StateUnavailable
from stems.jobs import Jobs

_log = logging.getLogger(__name__)


class Progress:
    """Tells Redis what was said last of each job; what is overtaken meanwhile is not told."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        # With the context in which it was told: the log names the event.
        self._latest: dict[str, tuple[Context, dict[str, str | int | float]]] = {}
        # What is in work, and whether it was cancelled meanwhile.
        self._followed: dict[str, bool] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._send, name="progress", daemon=True).start()

    @contextmanager
    def followed(self, job: str) -> Iterator[None]:
        """Work on a job, for `check`. Nothing of it is known afterwards: it may be uploaded again."""
        with self._news:
            self._followed[job] = False
        try:
            yield
        finally:
            with self._news:
                self._followed.pop(job, None)  # without leases, while Redis is away, another request may have it, too

    def tell(self, job: str, **values: str | int | float) -> None:
        """Note fields of a job for Redis, and return at once."""
        with self._news:
            _, before = self._latest.get(job, (None, {}))
            self._latest[job] = copy_context(), before | values
            self._news.notify()

    def check(self, job: str) -> None:
        """Raise Cancelled if Redis has answered, to what was told earlier, that the job was cancelled."""
        if self._followed.get(job):
            raise Cancelled("the song was cancelled while it was in work")

    def _send(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._latest)
                latest, self._latest = self._latest, {}
            for job, (context, values) in latest.items():
                context.run(self._tell, job, values)

    def _tell(self, job: str, values: dict[str, str | int | float]) -> None:
        try:
            cancelled = self._jobs.update(job, **values)
        except StateUnavailable as error:
            _log.warning("progress not told: %s", error)
            return
        with self._news:
            if cancelled and job in self._followed:
                self._followed[job] = True
