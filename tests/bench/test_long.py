"""Songs in parts through the whole pipeline: what two workers gain, who waits for whom, requests of a minute.

ROUNDS=5: more rounds than three. TWO_S=600: ten minutes for two workers, instead of 99 s; LONG_MIN=180: ten short
songs behind one of three hours, instead of five minutes; HOUR_MIN=3: three minutes in parts of 15 s, instead of an
hour; HOURS=12: the longest song has twelve hours, instead of one.
"""

import hashlib
import os
import re
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from stems import naming
from stems.config import Settings
from stems.storage import Storage
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.bench.machine import machine
from tests.bench.test_separate import NAME, weights
from tests.bench.tree import pin
from tests.cluster.songs import lasting
from tests.conftest import QUICK
from tests.integration.test_long import Long, kill
from tests.pipeline import Pipeline, wait_for

ROUNDS = int(os.environ.get("ROUNDS") or 3)
TWO_S = int(os.environ.get("TWO_S") or 99)
HOUR_MIN = int(os.environ.get("HOUR_MIN") or 60)
LIMIT_S = 60
LONG_MIN = int(os.environ.get("LONG_MIN") or 5)
HOURS = int(os.environ.get("HOURS") or 1)


class Timed:
    """A pipeline of so many workers of one thread each, and how long songs take through it.

    `cores`: whether each worker has a core of its own, encoder and all, as a pod has that may take one; else what does
    not compute the network takes whichever is free.
    """

    def __init__(
        self, folder: Path, programs: Programs, workers: int, own: Mapping[str, str], *, cores: bool = False
    ) -> None:
        self.stack = Stack(folder, programs, {**own, "OMP_NUM_THREADS": "1", "STEMS_DEVICE": "cpu"}, workers)
        self.stack.start()
        for name, core in zip(self.stack._separate, sorted(os.sched_getaffinity(0)), strict=False) if cores else ():
            pin(self.stack.pid(f"pipeline:{name}"), core)
        self.hands = Pipeline(self.stack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hands.close()
        self.stack.stop()

    def took(self, path: Path) -> tuple[float, Mapping[str, float]]:
        """Return the seconds from the upload of a song to its end, and those of its stages."""
        started = time.monotonic()
        track = self.hands.done(path.name, self.hands.put(path, path.name), 3600)
        return time.monotonic() - started, track["stages_s"]

    def shorts(self, folder: Path, name: str, count: int = 10) -> list[float]:
        """Upload so many songs of 8 s at once; return how long each took."""
        paths = [lasting(folder / f"{name} {number}.mp3", 8) for number in range(count)]
        started, ended = time.monotonic(), dict.fromkeys((path.name for path in paths), 0.0)
        for path in paths:
            self.hands.put(path, path.name)
        while not all(ended.values()):
            for key in [key for key, at in ended.items() if not at]:
                if self.hands.tags(key).get("state") == "done":
                    ended[key] = time.monotonic() - started
            time.sleep(0.05)
        return sorted(ended.values())


@pytest.mark.bench
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cores", [False, True], ids=["cores shared", "a core each"])
def test_two_workers(cores: bool, tmp_path: Path, programs: Programs) -> None:
    weights(tmp_path)
    part_s = TWO_S / 4 + 0.25
    own = {"STEMS_MODEL": NAME, "STEMS_MODEL_DIR": str(tmp_path), "STEMS_PART_S": str(part_s)}
    print(f"\n{machine()}\na network of htdemucs' size, one thread a worker, {TWO_S} s in four parts, four MP3s")
    print("a worker has a core of its own" if cores else "what does not compute the network takes any core")
    gains = []
    with ExitStack() as ending:
        pipelines = {}
        for workers in (1, 2):
            timed = Timed(tmp_path / f"workers-{workers}", programs, workers, own, cores=cores)
            pipelines[workers] = ending.enter_context(timed)
            # Whatever the first song of a worker costs.
            pipelines[workers].shorts(tmp_path, f"first of {workers}", workers)
        for number in range(1, ROUNDS + 1):
            seconds = {}
            for workers, pipeline in pipelines.items():
                seconds[workers], stages_s = pipeline.took(lasting(tmp_path / f"song {number}.mp3", TWO_S))
                print(f"  {workers}: {seconds[workers]:.1f} s; of all workers together {stages_s}")
            gains.append(seconds[1] / seconds[2])
            print(f"  {gains[-1]:.2f} times sooner")
    print(f"{statistics.median(gains):.2f} times sooner, median (goal: 1.8)")


@pytest.mark.bench
@pytest.mark.timeout(7200)
def test_who_waits(tmp_path: Path, programs: Programs) -> None:
    part_s = LONG_MIN * 60 / 36
    print(f"\n{machine()}\nmodel untrained, two workers of one thread, parts of {part_s:.0f} s; ten songs of 8 s")
    own = {"STEMS_MODEL": "untrained", "STEMS_PART_S": str(part_s)}
    with Timed(tmp_path / "two", programs, 2, own) as two:
        two.shorts(tmp_path, "first", 2)
        told = {"alone": two.shorts(tmp_path, "alone")}
        long, started = lasting(tmp_path / "long.mp3", LONG_MIN * 60), time.monotonic()
        etag = two.hands.put(long, long.name, {"stems": "vocals"})
        wait_for("its parts", lambda: two.hands.redis.exists(naming.DIVIDED), 1200)
        divided_s = time.monotonic() - started
        for number in range(3):
            told[f"behind one of {LONG_MIN} min, {number + 1}"] = two.shorts(tmp_path, f"behind {number}")
        for name, seconds in told.items():
            print(f"  {name}: median {statistics.median(seconds):.1f} s, last {seconds[-1]:.1f} s")
        progress = float(two.hands.job(long.name, etag)["progress"])
        print(f"  the long one: divided after {divided_s:.0f} s, {progress:.0%} done by now", flush=True)
        stages_s = two.hands.done(long.name, etag, 7200)["stages_s"]
        print(f"    done after {time.monotonic() - started:.0f} s: {stages_s}")
        wait_for("the end of its parts", lambda: not [*two.hands.s3.list_objects("output", "parts/", recursive=True)])


@pytest.mark.bench
@pytest.mark.timeout(7200)
def test_an_hour_in_requests_of_a_minute(tmp_path: Path, programs: Programs) -> None:
    part_s = 5 * HOUR_MIN
    print(f"\n{machine()}\nmodel untrained; {HOUR_MIN} min in parts of {part_s} s, {LIMIT_S} s for a request; ", end="")
    print("killed in a part, Redis emptied")
    own = {"STEMS_PART_S": str(part_s), "STEMS_DELIVERY_TIMEOUT_S": str(LIMIT_S), "STEMS_LOG_LEVEL": "INFO"}
    stack = Stack(tmp_path / "hour", programs, QUICK | own)
    stack.start()
    hands = Long(stack)
    try:
        path, started = lasting(tmp_path / "hour.mp3", 60 * HOUR_MIN), time.monotonic()
        songhash = hashlib.sha256(path.read_bytes()).hexdigest()
        etag = hands.put(path, path.name)
        wait_for("a third of the parts", lambda: hands.there(songhash) >= 4, 1200)
        kill(stack.pid("pipeline:separate"))
        wait_for("half of the parts", lambda: hands.there(songhash) >= 6, 1200)
        hands.redis.flushall()
        track = hands.done(path.name, etag, 3600)
        print(f"  there after {time.monotonic() - started:.0f} s: {track['stages_s']}")
        begun = hands.begun(path.name)
        print(f"  how often each part was begun: {sorted(begun.items())}")
        took = sorted((seconds for seconds, _ in deliveries(stack, path.name)), reverse=True)
        print(f"  {len(took)} deliveries that were answered, in s: {took}")
        assert max(took) < LIMIT_S
        # One for the worker that was killed, one for what was in work when Redis forgot that it was.
        assert begun.total() <= len(begun) + 2
    finally:
        hands.close()
        stack.stop()


def deliveries(stack: Stack, key: str) -> list[tuple[float, str]]:
    """Return the seconds that each delivery of a song and of its parts took, with its line; none took too long."""
    log = (stack.root / "logs" / "relay.log").read_text(errors="replace")
    lines = [line for line in log.splitlines() if f"key={key}" in line]
    late = [line for line in lines if re.search(r"no answer from \S+ in time", line)]
    assert late == []
    return [(float(found[1]), line) for line in lines if (found := re.search(r" seconds=([\d.]+)", line))]


@pytest.mark.bench
@pytest.mark.timeout(7200)
def test_the_longest(tmp_path: Path, programs: Programs) -> None:
    duration_s = HOURS * 3600 - 10  # an MP3 is some frames longer than asked for
    print(f"\n{machine()}\n{HOURS} h, one stem, parts as by default; model untrained, two workers of one thread")
    with Timed(tmp_path / "two", programs, 2, {"STEMS_MODEL": "untrained", "STEMS_LOG_LEVEL": "INFO"}) as two:
        path, started = lasting(tmp_path / "longest.mp3", duration_s), time.monotonic()
        etag = two.hands.put(path, path.name, {"stems": "vocals"})
        track = two.hands.done(path.name, etag, 7200)
        print(f"  there after {time.monotonic() - started:.0f} s: {track['stages_s']}")
        told = deliveries(two.stack, path.name)
        of_parts = [seconds for seconds, line in told if ".part-" in line]
        middle = statistics.median(of_parts)
        print(f"  {len(of_parts)} parts: {middle:.1f} s, median, {max(of_parts):.1f} at most; all the rest:")
        print("\n".join(f"    {line}" for _, line in told if ".part-" not in line))
        storage = Storage(Settings.from_env(two.stack.environ("separate")))
        (stem,) = storage.track(track["songhash"]).stems
        copying = time.monotonic()
        storage.copy_stem(stem, naming.part_folder(track["songhash"]) + "copy", "audio/mpeg")
        print(f"  its file of {stem.size / 1e6:.0f} MB copied, as where stems are joined apart: ", end="")
        print(f"{time.monotonic() - copying:.1f} s")
