"""Memory for the large tensors of a segment: each thread that computes has a stack that stays from segment to segment.

They are alike in each segment, and what is made later is needed less long, so that a stack leaves no holes. An
allocator does; or it gives large blocks back to the system and gets them again as new pages, which are zeroed first: a
tenth of a segment's time.
"""

import math
import mmap
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Addresses, not memory: htdemucs touches 155 MiB of them.
_BYTES = 1 << 29
_ALIGNED = 64


class _Arena:
    """The stack of a thread; `lock` is held while there is anything on it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._memory = mmap.mmap(-1, _BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._advise("MADV_HUGEPAGE")
        with torch.inference_mode(False):  # or nobody else could write to it
            self._bytes = torch.frombuffer(self._memory, dtype=torch.uint8)
        self.scopes = self.top = 0

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor | None:
        """Return a tensor on top of the stack; None where it is too large."""
        start = -(-self.top // _ALIGNED) * _ALIGNED
        stop = start + math.prod(shape) * dtype.itemsize
        if stop > _BYTES:
            return None
        self.top = stop
        return self._bytes[start:stop].view(dtype).view(shape)

    def give_back(self) -> None:
        """Give the system back all pages; whoever touches one gets a new one."""
        self._advise("MADV_DONTNEED")

    def _advise(self, name: str) -> None:
        advice = getattr(mmap, name, None)  # not every system has each
        if advice is not None:
            self._memory.madvise(advice)


class _Own(threading.local):
    def __init__(self) -> None:
        self.arena = _Arena()
        with _registry:
            _arenas.add(self.arena)


_registry = threading.Lock()
_arenas: "weakref.WeakSet[_Arena]" = weakref.WeakSet()
_own = _Own()


@contextmanager
def scope() -> Iterator[None]:
    """Free what `empty` returns within the block at its end."""
    arena = _own.arena
    top = arena.top
    if not arena.scopes:
        arena.lock.acquire()
    arena.scopes += 1
    try:
        yield
    finally:
        arena.top = top
        arena.scopes -= 1
        if not arena.scopes:
            arena.lock.release()


def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor with anything in it, valid until the innermost scope ends; without a scope, for good."""
    arena = _own.arena
    made = arena.empty(shape, dtype) if arena.scopes else None
    return torch.empty(shape, dtype=dtype) if made is None else made


def give_back() -> None:
    """Give the system back the memory of all threads that are not within a scope."""
    with _registry:
        arenas = list(_arenas)
    for arena in arenas:
        if arena.lock.acquire(blocking=False):
            try:
                arena.give_back()
            finally:
                arena.lock.release()
