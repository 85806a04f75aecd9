"""The allocator's settings: what the networks free is kept for their next step.

glibc hands blocks beyond 32 MB back to the system at once, and gets them as new pages: 700,000 page faults and 1.5 s of
each segment's 6.5 s of processor time, seen on htdemucs.
"""

import ctypes
from functools import cache

_LIBRARY = ctypes.CDLL(None)
# From <malloc.h>, which has no other names for Python.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@cache
def keep() -> None:
    """Keep freed memory in this process; nothing where the C library is not glibc."""
    mallopt = getattr(_LIBRARY, "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give the system back what is free now: where much is free in pieces, and large ones are to come."""
    trim = getattr(_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)
