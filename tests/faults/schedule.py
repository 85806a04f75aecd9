"""One schedule: a stream of songs and some faults, both made by a seed; then peace, and what is found in it."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.faults import checker, songs
from tests.faults.faults import FAULTS, WORKERS, Fault
from tests.faults.stack import ORPHAN_S, Stack, wait

_END_S = 300.0  # what is not ended then is lost
_FIELDS = {
    **{"notifications": "llen", "waiting": "zcard", "attempts": "hlen", "replies": "zcard"},
    **{"parts": "zcard", "parts:later": "zcard", "divided": "zcard"},
}


@dataclass
class Outcome:
    """What a schedule came to. `struck`: its faults; `doubled`: separations beyond the first of their song."""

    seed: int
    struck: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    songs: int = 0
    doubled: int = 0
    delay_s: float = 0.0
    took_s: float = 0.0


class Schedule:
    """A schedule on a running stack; what it does follows from its seed (and from what the machine makes of it).

    `beside`: how many faults stand beside the first; None: 0 to 2 of them.
    """

    def __init__(self, stack: Stack, seed: int, beside: int | None = None) -> None:
        self.stack, self.seed = stack, seed
        self.random = random.Random(seed)
        self.uploader = songs.Uploader(stack.s3, f"s{seed}-")
        self.over = False
        self._made = 0
        self._lock = threading.Lock()
        usable = [fault for fault in FAULTS if stack.small_disks or not fault.needs_disks]
        # In turn, so that each is tried as often as any other.
        first = usable[seed % len(usable)]
        count = self.random.randint(0, 2) if beside is None else beside
        self.faults: list[Fault] = [first, *self.random.sample([each for each in usable if each != first], count)]

    def song(self) -> songs.Song:
        """Return the next song: no other schedule has it."""
        with self._lock:
            self._made += 1
            return songs.make(f"{self.seed}-{self._made}")

    def run(self) -> Outcome:
        """Run it, and return what came of it; the stack is calm and its buckets are empty of it afterwards."""
        began, outcome = time.monotonic(), Outcome(self.seed)
        since = {part: self.stack.parts[part].log.stat().st_size for part in WORKERS}
        with ThreadPoolExecutor(len(self.faults)) as pool:
            striking = []
            for number, fault in enumerate(self.faults):
                striking.append(pool.submit(fault.strike, self))
                time.sleep(self.random.uniform(0, 0.5))
                for _ in range(self.random.randint(1, 2)):
                    self.uploader.put(f"song{number}-{self.random.randrange(1000)}", self.song())
                    time.sleep(self.random.uniform(0, 0.4))
            self._end()
            self.over = True
            for fault, future in zip(self.faults, striking, strict=True):
                (outcome.struck if future.result() else outcome.missed).append(fault.name)
        self.stack.calm()
        outcome.delay_s = self._end()
        outcome.problems += self._leftovers()
        outcome.problems += self._found()
        begun = self._count("separating", "key", since) + self._count("making a part", "key", since, "part")
        ended = self._count("separated", "songhash", since)
        outcome.problems += self._too_often(begun)
        outcome.problems += (f"Redis refused {each}" for each in self.stack.refused())
        outcome.songs, outcome.doubled = (
            len(self.uploader.accepted),
            sum(count - 1 for count in ended.values() if count > 1),
        )
        self._forget()
        outcome.took_s = time.monotonic() - began
        return outcome

    def _end(self) -> float:
        """Wait until all uploads have ended, for as long as is thinkable; return the worst delay seen."""
        began, worst = time.monotonic(), 0.0
        open_ = dict(self.uploader.now)
        while open_ and time.monotonic() < began + _END_S:
            for key, upload in list(open_.items()):
                if self.uploader.now.get(key) is not upload:
                    del open_[key]
                elif _quietly(partial(checker.ended, self.stack.root, upload)):
                    worst = max(worst, time.monotonic() - upload.at)
                    del open_[key]
            time.sleep(0.1)
        return worst

    def _found(self) -> list[str]:
        """Return what the checker finds; stems without a record may stand for a while."""
        found: list[str] = []

        def look() -> bool:
            found[:] = checker.problems(self.stack.root, self.uploader.now.values(), self.uploader.accepted)
            return not (found and all(checker.ORPHAN in each for each in found))

        wait(look, 6 * ORPHAN_S, 1)
        return found

    def _leftovers(self) -> Iterator[str]:
        """Yield what is left in Redis of what has ended."""
        if not wait(lambda: _quietly(lambda: not list(self._left())), _END_S):
            yield from (f"in Redis: {each}" for each in self._left())

    def _left(self) -> Iterator[str]:
        store = self.stack.redis
        for name, count in _FIELDS.items():
            if found := getattr(store, count)(f"stems:{name}"):
                yield f"{found} in stems:{name}"
        for pattern in ("processing:*", "delivering:*", "lease:*", "parts:*"):
            yield from store.scan_iter(f"stems:{pattern}", count=1000)

    def _count(self, message: str, field: str, since: dict[str, int], *more: str) -> Counter[tuple[str, ...]]:
        """Count what the workers say of songs of this schedule, by fields of their lines."""
        lines = (line for part in WORKERS for line in self.stack.lines(part, since[part]))
        return Counter(
            tuple(line[each] for each in (field, *more))
            for line in lines
            if line.get("message") == message and str(line.get("key", "")).startswith(self.uploader.prefix)
        )

    def _too_often(self, begun: Counter[tuple[str, ...]]) -> Iterator[str]:
        """Yield the songs, and parts of songs, that were begun more often than the faults explain."""
        explained = sum(fault.repeats for fault in self.faults)
        puts = Counter(upload.key for upload in self.uploader.accepted)
        for (key, *part), count in begun.items():
            if count > puts[key] + explained:
                what = " ".join([key, *part])
                yield f"{what} was begun {count} times; {puts[key]} uploads and {[f.name for f in self.faults]}"

    def _forget(self) -> None:
        """Remove what the schedule left, so that the next one's sweeps are short."""
        hashes = self._hashes()
        for bucket, prefixes in (
            ("queue", {self.uploader.prefix}),
            ("output", hashes | {f"parts/{each}/" for each in hashes}),
        ):
            for prefix in prefixes:
                found = self.stack.root.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
                for each in found:
                    self.stack.root.delete_object(Bucket=bucket, Key=each["Key"])

    def _hashes(self) -> set[str]:
        return {upload.song.songhash for upload in self.uploader.accepted}


def _quietly(look: Callable[[], bool]) -> bool:
    """Return what `look` finds; False while what it asks is away."""
    try:
        return look()
    except Exception:  # a part is down on purpose
        return False
