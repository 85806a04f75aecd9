"""What the pods of `separate` hold and say while they are there: one that has ended tells nothing any more."""

import json
import threading
from dataclasses import dataclass, field
from types import TracebackType

from tests.cluster.space import Space

# Control groups in their second and first version: what programs hold, without the page cache, and the most of both.
_HELD = "grep -E '^anon ' memory.stat 2>/dev/null || grep -E '^rss ' memory/memory.stat"
_PEAK = "cat memory.peak 2>/dev/null || cat memory/memory.max_usage_in_bytes"
_EVERY_S = 5


@dataclass
class Seen:
    """What one pod was seen to hold, in MiB, and the parts of songs that it began, as (key, part)."""

    held: float = 0
    with_cache: float = 0
    restarts: int = 0
    parts: list[tuple[str, str]] = field(default_factory=list)


class Inside:
    """Looks into all pods of `separate`, from entering the block to leaving it; `pods` is what was seen, by name."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.pods: dict[str, Seen] = {}
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, name="inside")

    def __enter__(self) -> "Inside":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        self._thread.join()

    def parts(self, key: str) -> dict[str, list[str]]:
        """Return the parts of a song by the pod that began them, without pods that had none."""
        found = {name: [part for song, part in seen.parts if song == key] for name, seen in [*self.pods.items()]}
        return {name: parts for name, parts in found.items() if parts}

    def busiest(self, key: str, least: int) -> str | None:
        """Return the pod that began most parts of a song, if these are `least` or more."""
        most = max(((len(parts), name) for name, parts in self.parts(key).items()), default=(0, ""))
        return most[1] if most[0] >= least else None

    def table(self, key: str) -> str:
        """Return a line for each pod that began parts of a song."""
        lines = [f"{'pod':40}  {'held':>8}  parts"]
        for name, parts in self.parts(key).items():
            lines.append(f"{name:40}  {self.pods[name].held:4.0f} MiB  {', '.join(parts)}")
        return "\n".join(lines)

    def _look(self) -> None:
        while not self._left.wait(_EVERY_S):
            for pod in self._space.pods("separate"):
                try:
                    self._look_into(pod["metadata"]["name"], pod["status"].get("containerStatuses", ()))
                except AssertionError:
                    continue  # it is not up yet, or has just gone

    def _look_into(self, pod: str, containers: list[dict[str, int]]) -> None:
        log = self._space.kubectl("logs", pod, "-c", "separate")
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        seen = self.pods.setdefault(pod, Seen())
        seen.parts = [(line["key"], line["part"]) for line in lines if line["message"] == "making a part"]
        seen.restarts = sum(each["restartCount"] for each in containers)
        inside = ("exec", pod, "-c", "separate", "--", "sh", "-c", f"cd /sys/fs/cgroup; {_HELD}; {_PEAK}")
        held, peak = self._space.kubectl(*inside).splitlines()
        seen.held = max(seen.held, int(held.split()[1]) / 2**20)
        seen.with_cache = max(seen.with_cache, int(peak) / 2**20)
