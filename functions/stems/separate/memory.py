"""The allocator's settings: what the networks free is kept for their next step, and leaves few holes.

By itself glibc gives the system back what is free at the end of its heap, and gets it as new pages: 670,000 page faults
and 1.2 s of each segment's 6.3 s of processor time, seen on htdemucs. Keeping all of it leaves holes between the large
blocks, 130 MiB for two segments at once. So a large block that finds no hole is got from the system, and goes back.
The largest ones are no business of the allocator at all (`arena`), so that threads seldom wait for each other's turn at
the one heap.
"""

import ctypes
from functools import cache

_LIBRARY = ctypes.CDLL(None)
# From <malloc.h>, which has no other names for Python.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# With 2 MiB, 50 MiB less and a tenth of the time more; with 6, 40 MiB more and no time less.
_LARGE = 3 << 20


def share() -> None:
    """Let all threads have one heap: what one of them frees is there for the others. For threads that come later."""
    mallopt = getattr(_LIBRARY, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


@cache
def keep() -> None:
    """Keep freed memory in this process; nothing where the C library is not glibc."""
    mallopt = getattr(_LIBRARY, "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give the system back what is free now: where much is free in pieces, and large ones are to come."""
    trim = getattr(_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)
