"""How much this function does at a time; gunicorn.conf.py says with how many threads."""

import threading
from collections.abc import Callable

from stems.errors import TransientError

#: Downloads at a time, each of them a thread. The other threads are for short answers, the liveness probe's among them.
DOWNLOADS = 48
#: Uploads through this function at a time: each has a part of some megabytes in memory.
UPLOADS = 8


class Transfers:
    """The right to send or take many bytes; safe to use from several threads."""

    def __init__(self, what: str, limit: int) -> None:
        self._what, self._limit = what, limit
        self._free = threading.BoundedSemaphore(limit)

    def begin(self) -> Callable[[], None]:
        """Return what ends the transfer; it may be called again. Raises TransientError when there are too many."""
        if not self._free.acquire(blocking=False):
            raise TransientError(
                f"{self._limit} {self._what} are going on here: try again, or go past this function", 1
            )
        ended = threading.Event()

        def end() -> None:
            if not ended.is_set():
                ended.set()
                self._free.release()

        return end
