"""How much this function does at a time."""

import threading
from collections.abc import Callable

from stems.errors import TransientError

#: Threads of a process; each serves one request, a download for as long as it takes.
THREADS = 64
#: Downloads and uploads at a time. The rest of the threads is for short answers, the liveness probe's among them.
TRANSFERS = 56


class Transfers:
    """The right to send or take many bytes; safe to use from several threads."""

    def __init__(self, limit: int = TRANSFERS) -> None:
        self._free = threading.BoundedSemaphore(limit)

    def begin(self) -> Callable[[], None]:
        """Return what ends the transfer; it may be called again. Raises TransientError when there are too many."""
        if not self._free.acquire(blocking=False):
            raise TransientError(
                f"{TRANSFERS} downloads and uploads are going on here: try again, or ask MinIO (?redirect=1)", 1
            )
        ended = threading.Event()

        def end() -> None:
            if not ended.is_set():
                ended.set()
                self._free.release()

        return end
