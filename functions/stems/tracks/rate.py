"""How many requests a second each client may send: a token bucket each, in this process.

Not in Redis: a limit protects the process that has it, at no cost and also while Redis is away.
"""

import math
import threading
import time
from collections.abc import Callable

_BURST_S = 5.0  # of the rate, saved up
_MANY = 10_000  # clients known at a time


class Rate:
    """Allows `per_s` requests a second to each client, and five seconds' worth at once; 0: any number."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most, self._clock = per_s, max(1.0, per_s * _BURST_S), clock
        self._left: dict[str, tuple[float, float]] = {}  # client -> what was left, and when
        self._lock = threading.Lock()

    def wait_s(self, client: str) -> int:
        """Take one request; return 0, or the whole seconds until the client may send another."""
        if not self._per_s:
            return 0
        now = self._clock()
        with self._lock:
            left, then = self._left.pop(client, (self._most, now))
            left = min(self._most, left + (now - then) * self._per_s)
            allowed = left >= 1
            self._left[client] = (left - allowed, now)  # last: the dictionary is in the order of use
            if len(self._left) > _MANY:
                del self._left[next(iter(self._left))]
        return 0 if allowed else math.ceil((1 - left) / self._per_s)
