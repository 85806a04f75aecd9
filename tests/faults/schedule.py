"""One schedule: a stream of songs and some faults, both made by a seed; then peace, and what is found in it."""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.faults import checker, songs
from tests.faults.faults import FAULTS
from tests.faults.run import RELAYS, WORKERS, Fault, Run
from tests.faults.stack import ORPHAN_S, Stack, quietly, wait

_END_S = 300.0  # what is not ended then is lost
_BEGINNINGS = ("separating", "making a part")
_FIELDS = {
    **{"notifications": "llen", "waiting": "zcard", "attempts": "hlen", "replies": "zcard"},
    **{"parts": "zcard", "parts:later": "zcard", "divided": "zcard"},
}


@dataclass
class Outcome:
    """What a schedule came to. `struck`: its faults; `missed`: those whose moment did not come; `skipped`: those that
    this machine cannot do; `doubled`: separations beyond the first of their song; `delay_s`: the worst.
    """

    seed: int
    struck: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
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
        self.uploader = stack.uploader(f"s{seed}-")
        self._over = threading.Event()
        self._delays_s: dict[tuple[str, float], float] = {}
        self._only_swept: list[songs.Accepted] = []
        chance = random.Random(seed)
        first = FAULTS[seed % len(FAULTS)]  # in turn, so that each is tried as often as any other
        count = chance.randint(0, 2) if beside is None else beside
        self.faults = [first, *chance.sample([each for each in FAULTS if each != first], count)]

    def of(self, number: int) -> Run:
        """Return what the fault of this number sees; those behind the last one: songs between the faults."""
        return Run(self.stack, self.uploader, self.seed, number, self._over, self._only_swept)

    def run(self) -> Outcome:
        """Run it, and return what came of it; the stack is calm and its buckets are empty of it afterwards."""
        began, outcome = time.monotonic(), Outcome(self.seed)
        since = {part: self.stack.parts[part].log.stat().st_size for part in (*WORKERS, *RELAYS)}
        struck = self._strike(outcome)
        self.stack.calm()
        self._end()
        outcome.delay_s = max(self._delays_s.values(), default=0)
        outcome.problems += self._leftovers()
        outcome.problems += self._found()
        lines = [line for part in since for line in self.stack.lines(part, since[part])]
        outcome.problems += self._too_often(lines, struck)
        outcome.problems += self._not_swept(lines)
        outcome.problems += (f"Redis refused {each}" for each in self.stack.refused())
        outcome.songs = len(self.uploader.accepted)
        ended = Counter(line["songhash"] for line in lines if line.get("message") == "separated" and self._ours(line))
        outcome.doubled = sum(count - 1 for count in ended.values())
        self._forget()
        outcome.took_s = time.monotonic() - began
        return outcome

    def _strike(self, outcome: Outcome) -> list[Fault]:
        """Upload while the faults strike; enter in the outcome which did, and return them."""
        # Its own: how many uploads a fault makes, and when, changes nothing of these.
        between, able = self.of(len(self.faults)), []
        for fault in self.faults:
            if fault.needs_disks and not self.stack.small_disks:
                outcome.skipped.append(fault.name)
            else:
                able.append(fault)
        with ThreadPoolExecutor(len(self.faults)) as pool:
            striking = {}
            for number, fault in enumerate(self.faults):
                if fault in able:
                    striking[fault.name] = pool.submit(fault.strike, self.of(number))
                time.sleep(between.random.uniform(0, 0.5))
                for _ in range(between.random.randint(1, 2)):
                    between.put(f"song{number}-{between.random.randrange(1000)}", between.song())
                    time.sleep(between.random.uniform(0, 0.4))
            self._end()
            self._over.set()
            struck = [fault for fault in able if striking[fault.name].result()]
        outcome.struck += (fault.name for fault in struck)
        outcome.missed += (fault.name for fault in able if fault not in struck)
        return struck

    def _end(self) -> None:
        """Wait until all uploads have ended, for as long as is thinkable; note when each was first seen so."""
        began, open_ = time.monotonic(), True
        while open_ and time.monotonic() < began + _END_S:
            open_ = False
            for upload in list(self.uploader.now.values()):
                if quietly(partial(checker.ended, self.stack.root, upload)):
                    self._delays_s.setdefault((upload.key, upload.at), time.monotonic() - upload.at)
                else:
                    open_ = True
            time.sleep(0.1)

    def _found(self) -> list[str]:
        """Return what the checker finds; some of it may stand for a while."""
        found: list[str] = []

        def look() -> bool:
            uploads = (self.uploader.now.values(), self.uploader.accepted)
            found[:] = checker.problems(self.stack.root, *uploads, self.stack.known)
            return not found or not all(each.startswith(checker.LATE) for each in found)

        wait(look, 6 * ORPHAN_S, 1)
        return found

    def _leftovers(self) -> Iterator[str]:
        """Yield what is left in Redis of what has ended."""
        if not wait(lambda: quietly(lambda: not list(self._left())), _END_S):
            yield from (f"in Redis: {each}" for each in self._left())

    def _left(self) -> Iterator[str]:
        store = self.stack.redis
        for name, count in _FIELDS.items():
            if found := getattr(store, count)(f"stems:{name}"):
                yield f"{found} in stems:{name}"
        for pattern in ("processing:*", "delivering:*", "lease:*", "parts:*"):
            yield from store.scan_iter(f"stems:{pattern}", count=1000)

        wanted = {upload.job for upload in self.uploader.now.values() if upload.song.samples == 0}
        letters = {job: store.hget(f"stems:job:{job}", "key") for job in store.zrange("stems:dead", 0, -1)}
        dead = {job for job, key in letters.items() if key is None or key.startswith(self.uploader.prefix)}
        if dead != wanted:
            yield f"dead letters: {[letters[job] for job in dead - wanted]} too many, {len(wanted - dead)} too few"

    def _ours(self, line: Mapping[str, Any]) -> bool:
        return str(line.get("key", "")).startswith(self.uploader.prefix)

    def _too_often(self, lines: Iterable[Mapping[str, Any]], struck: Iterable[Fault]) -> Iterator[str]:
        """Yield the songs that were begun, as a whole or in parts, more often than the faults that struck explain."""
        whose = {upload.job: upload.song.songhash for upload in self.uploader.accepted}
        begun: dict[str, Counter[str]] = defaultdict(Counter)
        for line in lines:
            if line.get("message") in _BEGINNINGS and line["job"] in whose:
                begun[whose[line["job"]]][line.get("part", "as a whole")] += 1
        for songhash, parts in begun.items():
            again = {part: count for part, count in parts.items() if count > 1}
            if sum(again.values()) - len(again) > sum(fault.repeats for fault in struck):
                keys = {upload.key for upload in self.uploader.accepted if upload.song.songhash == songhash}
                yield f"{keys} was begun too often: {again}, by {[fault.name for fault in struck]}"

    def _not_swept(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """Yield the uploads that nobody was told of, and that the sweep did not bring by what the log says."""
        swept = {
            line["key"]
            for line in lines
            if self._ours(line)
            and (line["message"].startswith("swept up") or str(line.get("event_id", "")).startswith("sweep."))
        }
        for upload in self._only_swept:
            if upload.key not in swept:
                yield f"{upload.key} was not brought by the sweep"

    def _forget(self) -> None:
        """Remove what the schedule left, so that the next one's sweeps are short, and its dead letters its own."""
        hashes = {upload.song.songhash for upload in self.uploader.accepted}
        for bucket, prefixes in (
            ("queue", {self.uploader.prefix}),
            ("output", hashes | {f"parts/{each}/" for each in hashes}),
        ):
            for prefix in prefixes:
                found = self.stack.root.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
                for each in found:
                    self.stack.root.delete_object(Bucket=bucket, Key=each["Key"])
        for upload in self.uploader.accepted:
            if self.stack.redis.zrem("stems:dead", upload.job):
                self.stack.redis.delete(f"stems:job:{upload.job}")
