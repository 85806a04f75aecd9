"""The two branches of a network, of its spectrum and of its samples: at once where there are two cores for it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Protocol, TypeVar

import torch

from stems.separate import arena

T = TypeVar("T")

# Branches beside others, of as many segments.
_MOST = 8


class Begin(Protocol):
    """Begins some work, and returns what waits for its end and returns its result."""

    def __call__(self, work: Callable[[], T], /) -> Callable[[], T]: ...


@contextmanager
def branches(at_once: bool) -> Iterator[Begin]:
    """Lend what begins one branch; the other is the caller's own work meanwhile.

    `at_once`: by another thread if torch has more than one here, and none of them for what torch itself computes, which
    would wait for the other branch at every step. Otherwise the work is done when its result is asked for.
    """
    threads = torch.get_num_threads()
    if not at_once or threads < 2:
        yield _later
        return
    arena.give_back()  # this thread needs less of it than for both
    torch.set_num_threads(1)
    try:
        yield _beside
    finally:
        torch.set_num_threads(threads)


def _later(work: Callable[[], T]) -> Callable[[], T]:
    return work


def _beside(work: Callable[[], T]) -> Callable[[], T]:
    inference = torch.is_inference_mode_enabled()  # of each thread its own

    def begun() -> T:
        torch.set_num_threads(1)
        with torch.inference_mode(inference):
            return work()

    return _threads().submit(begun).result


@cache
def _threads() -> ThreadPoolExecutor:
    """Return threads that stay, as does what torch keeps in each that computes."""
    return ThreadPoolExecutor(_MOST, "branch")
