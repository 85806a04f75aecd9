"""The two branches of a network, of its spectrum and of its samples: at once where there are two cores for it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from stems.separate import allowance, arena

T = TypeVar("T")


class Begin(Protocol):
    """Begins some work, and returns what waits for its end and returns its result."""

    def __call__(self, work: Callable[[], T], /) -> Callable[[], T]: ...


class _Own(threading.local):
    """Of a thread that computes: another one for the second branch, and whether that was used last."""

    def __init__(self) -> None:
        self.other = ThreadPoolExecutor(1, "branch")
        self.beside = False


_own = _Own()


@contextmanager
def branches(at_once: bool) -> Iterator[Begin]:
    """Lend what begins one branch; the other is the caller's own work meanwhile.

    `at_once`: by another thread, if this one has more than one of torch's; torch's own operators get one in each, or
    they would wait for the other branch at every step. Otherwise the work is done when its result is asked for.
    """
    threads = torch.get_num_threads()
    beside = at_once and threads > 1
    if beside and not _own.beside:
        arena.give_back()  # one branch needs less than both
    _own.beside = beside
    if not beside:
        yield _later
        return
    begun: list[Future[Any]] = []

    def begin(work: Callable[[], T]) -> Callable[[], T]:
        inference = torch.is_inference_mode_enabled()  # of each thread its own

        def computed() -> T:
            allowance.take(1)
            with torch.inference_mode(inference):
                return work()

        future = _own.other.submit(computed)
        begun.append(future)
        return future.result

    allowance.take(1)
    try:
        yield begin
    finally:
        wait(begun)  # where this branch failed, the other one may still read what it made
        allowance.take(threads)


def _later(work: Callable[[], T]) -> Callable[[], T]:
    return work
