"""The pods of a part over time, as the cluster tells of them."""

import json
import subprocess
import threading
import time
from collections import Counter
from types import TracebackType

from tests.cluster.space import Space

_STATES = ("starting", "ready", "ending")
_BARS = dict(zip(_STATES, "░█▒", strict=True))


class Watch:
    """Counts pods from entering the block to leaving it."""

    def __init__(self, space: Space, part: str) -> None:
        self._part = part
        select = ("get", "pods", "-l", f"app.kubernetes.io/name={part}")
        form = ("--watch", "--output-watch-events", "-o", "json")  # an object a line
        command = ["kubectl", "--namespace", space.name, *select, *form]
        self._pods: dict[str, str] = {}
        self.counts: list[tuple[float, Counter[str]]] = []
        self._started = time.monotonic()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._follow, name="watch")

    def __enter__(self) -> "Watch":
        self._count()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._thread.join()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _follow(self) -> None:
        assert self._process.stdout
        for event in map(json.loads, self._process.stdout):
            pod = event["object"]
            name, conditions = pod["metadata"]["name"], pod["status"].get("conditions", ())
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
            if event["type"] == "DELETED":
                self._pods.pop(name, None)
            else:
                self._pods[name] = "ending" if "deletionTimestamp" in pod["metadata"] else _STATES[ready]
            self._count()

    def _count(self) -> None:
        counts = Counter(self._pods.values())
        if not self.counts or self.counts[-1][1] != counts:
            self.counts.append((time.monotonic() - self._started, counts))

    def first(self, state: str) -> float:
        """Return the seconds until a pod was first in a state."""
        return next(seconds for seconds, counts in self.counts if counts[state])

    def most(self) -> int:
        """Return the most pods that there were at a time, without those that were ending."""
        return max(counts["starting"] + counts["ready"] for _, counts in self.counts)

    def table(self) -> str:
        """Return a line for each change."""
        lines = [f"{'seconds':>8}  " + "  ".join(_STATES) + f"  pods of {self._part}"]
        for seconds, counts in self.counts:
            numbers = "  ".join(f"{counts[state]:>{len(state)}}" for state in _STATES)
            lines.append(f"{seconds:8.1f}  {numbers}  " + "".join(_BARS[state] * counts[state] for state in _STATES))
        return "\n".join(lines)
