"""What this process may use of its machine: less than is there, where a container has limits (cgroup v2)."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

_GROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")


@cache
def cores() -> int:
    """Return how many cores to compute with, at least one.

    They are those that torch takes (OMP_NUM_THREADS, or all that this process may run on), but not more than the
    container gets the time of, rounded: threads beyond these only hold each other up.
    """
    shares = (int(quota) / int(period) for quota, period in _limits("cpu.max") if quota != "max")
    return max(1, min([torch.get_num_threads(), *(round(share) for share in shares)]))


def take(count: int) -> None:
    """Let torch compute with so many cores in this thread."""
    torch.get_num_threads()  # or a thread's first operator would set it to what was said last in any thread
    torch.set_num_threads(count)


@cache
def memory_mib() -> int | None:
    """Return the memory to make do with, in MiB; None where nothing tells of any.

    It is the container's limit or, where there is none, half of what is free: whoever has the machine has other
    programs, too. Told once: it must not change from song to song, as the threads that compute stay.
    """
    limits = [int(most) >> 20 for (most,) in _limits("memory.max") if most != "max"]
    if limits:
        return min(limits)
    with suppress(OSError):
        for name, number, *_ in map(str.split, _MEMORY.read_text("utf-8").splitlines()):
            if name == "MemAvailable:":
                return int(number) // 2 >> 10
    return None


def _limits(name: str) -> Iterator[list[str]]:
    """Yield what the file `name` holds of the control group of this process, and of those around it."""
    with suppress(OSError):
        own = [line[4:] for line in _PROCESS.read_text("utf-8").splitlines() if line.startswith("0::/")]
        for path in (_GROUPS / "/".join(own), *(_GROUPS / "/".join(own)).parents):
            if path.is_relative_to(_GROUPS) and (path / name).is_file():
                yield (path / name).read_text("utf-8").split()
