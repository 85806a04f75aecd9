"""A process and all that it started: their memory, and the core that they have."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_EVERY_S = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Tree:
    """Watches while its block runs: `peak_mib` is the most that the process `pid` and its descendants held at a time.

    What is counted is resident: also the pages of libraries that others hold, too.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mib = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self.peak_mib = max(self.peak_mib, _resident_mib(self._pid))


def pin(pid: int, core: int) -> None:
    """Let the tree of `pid`, with all its threads and what they start from now on, have one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
        for child in (thread / "children").read_text().split():
            pin(int(child), core)


def _resident_mib(pid: int, parents: str = "") -> float:
    """Return what the tree of `pid` holds now; a process that ends meanwhile counts for nothing."""
    process = Path(f"/proc/{pid}")
    try:
        statm = (process / "statm").read_text()
        children = " ".join(file.read_text() for file in process.glob("task/*/children")).split()
    except OSError:
        return 0.0
    if statm == parents:  # between vfork and exec: the very memory of the parent
        return 0.0
    return int(statm.split()[1]) * _PAGE / 2**20 + sum(_resident_mib(int(child), statm) for child in children)
