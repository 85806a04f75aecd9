"""How long a separation will still take, from the segments done."""

import time
from collections.abc import Callable


class Pace:
    """Counts `segments` from its making on."""

    def __init__(self, segments: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._segments = segments
        self._clock = clock
        self._began = self._first = clock()

    def left_s(self, done: int) -> float | None:
        """Return the seconds left when `done` segments have just been done; None before the first.

        The first one, which is slower (memory is touched, kernels are chosen), counts only while it is the only one.
        """
        now = self._clock()
        if done == 1:
            self._first = now
        if done < 1:
            return None
        each = now - self._began if done == 1 else (now - self._first) / (done - 1)
        return each * max(self._segments - done, 0)
