"""Songs in parts: what each step takes, what dividing costs one worker, what two gain, and who waits for whom.

ROUNDS=5: more rounds than three. LENGTH_S=20: shorter songs than ten minutes, for one worker, and than 99 s, for two;
LONG_MIN=180: ten short songs behind one of three hours, instead of five minutes; HOUR_MIN=3: three minutes in parts of
15 s, instead of an hour; HOURS=12: the end of a song of twelve hours, instead of one.
"""

import hashlib
import os
import re
import resource
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided
from stems.separate import audio, join
from stems.separate.job import Worker
from stems.separate.plan import Plan
from stems.separate.shelf import Shelf
from stems.separate.work import Stages
from stems.storage import Storage
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.bench.machine import machine
from tests.bench.test_separate import NAME, weights
from tests.bench.tree import Tree
from tests.cluster.songs import lasting
from tests.conftest import QUICK
from tests.integration.test_long import Long, kill
from tests.minio_server import SECRETS, Server, minio
from tests.pipeline import Pipeline, wait_for

ROUNDS = int(os.environ.get("ROUNDS") or 3)
LENGTH_S = int(os.environ.get("LENGTH_S") or 600)
TWO_S = min(LENGTH_S, 99)
HOUR_MIN = int(os.environ.get("HOUR_MIN") or 60)
LIMIT_S = 60
LONG_MIN = int(os.environ.get("LONG_MIN") or 5)
HOURS = int(os.environ.get("HOURS") or 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with minio(tmp_path_factory.mktemp("minio")) as (server, _):
        yield server


def worker(server: Server, folder: Path, part_s: float) -> Worker:
    """Return a worker of this process."""
    settings = {
        "STEMS_S3_ENDPOINT": f"http://{server.endpoint}",
        "STEMS_S3_ACCESS_KEY": "separate",
        "STEMS_S3_SECRET_KEY": SECRETS["separate"],
        "STEMS_REDIS_URL": f"redis://127.0.0.1:{server.redis.connection_pool.connection_kwargs['port']}/0",
        "STEMS_MODEL": NAME,
        "STEMS_MODEL_DIR": str(folder),
        "STEMS_PART_S": str(part_s),
    }
    read = Settings.from_env(settings)
    return Worker(read, Storage(read))


def put(server: Server, path: Path) -> Upload:
    """Upload a song; return it as a sweep would."""
    client = server.login("uploader")
    etag = client.fput_object("queue", path.name, str(path)).etag or ""
    modified = client.stat_object("queue", path.name).last_modified
    assert modified
    return Upload.from_listing("queue", path.name, etag, path.stat().st_size, modified)


@contextmanager
def timed(what: str, times: dict[str, tuple[float, float]]) -> Iterator[None]:
    """Note wall and processor seconds, of ffmpeg too, of a block."""
    wall, spent = time.monotonic(), processor_s()
    yield
    times[what] = time.monotonic() - wall, processor_s() - spent
    print(f"  {what:14} {times[what][0]:7.2f} s wall {times[what][1]:7.2f} s of processors")


def processor_s() -> float:
    """Return the processor time of this process and of children that have ended, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.mark.bench
@pytest.mark.timeout(7200)
def test_one_worker(server: Server, tmp_path: Path) -> None:
    weights(tmp_path)
    part_s = LENGTH_S // 2 + 1  # an MP3 is some frames longer than asked for
    one, other = worker(server, tmp_path, 0), worker(server, tmp_path, part_s)
    for each in (one, other):
        each.load_model()
        each.do(put(server, lasting(tmp_path / f"warm-{id(each)}.mp3", 8)), Stages())
    print(f"\n{machine()}\n{LENGTH_S} s of music, four MP3s; in parts of {part_s} s")
    ratios: list[tuple[float, float]] = []
    for number in range(1, ROUNDS + 1):
        print(f"round {number}")
        times: dict[str, tuple[float, float]] = {}
        whole = put(server, lasting(tmp_path / f"whole {number}.mp3", LENGTH_S))
        stages = Stages()
        with timed("whole", times):
            one.do(whole, stages)
        print(f"    {stages.seconds}")
        in_parts(server, other, put(server, lasting(tmp_path / f"parts {number}.mp3", LENGTH_S)), times)
        wall, spent = (sum(each[kind] for name, each in times.items() if name != "whole") for kind in (0, 1))
        ratios.append((wall / times["whole"][0], spent / times["whole"][1]))
        print(f"  in parts / whole: {ratios[-1][0]:.3f} wall, {ratios[-1][1]:.3f} of processors")
    wall, spent = (statistics.median(each[kind] for each in ratios) for kind in (0, 1))
    print(f"in parts / whole, medians: {wall:.3f} wall (goal: 1.08), {spent:.3f} of processors")


def in_parts(server: Server, worker: Worker, upload: Upload, times: dict[str, tuple[float, float]]) -> None:
    """Make a song in two parts; print what each step took, what lay in the bucket, and the memory of the join."""
    stages = Stages()
    with timed("plan", times):
        answer = worker.do(upload, stages)
    print(f"    {stages.seconds}")
    assert isinstance(answer, Divided)
    assert len(answer.parts) == 2
    for wanted in answer.wanted(upload):
        with timed(wanted.name, times):
            worker.make(wanted)
        print(f"    {Shelf(worker._storage, wanted.songhash, wanted.plan).about(wanted.name).stages_s}")
    size = sum(item.size or 0 for item in server.login("root").list_objects("output", "parts/", recursive=True))
    print(f"    {size / 1e6:.0f} MB of parts: {size / 1e6 / LENGTH_S * 60:.0f} MB for each minute of music")
    stages, before = Stages(), Tree(os.getpid())
    with before:
        time.sleep(0.2)
    with Tree(os.getpid()) as memory, timed("join", times):
        track = worker.do(upload, stages)
    assert not isinstance(track, Divided)
    print(f"    {stages.seconds}; {memory.peak_mib:.0f} MiB at most, {before.peak_mib:.0f} MiB before")


class Timed:
    """A pipeline of so many workers of one thread each, and how long songs take through it."""

    def __init__(self, folder: Path, programs: Programs, workers: int, own: Mapping[str, str]) -> None:
        self.stack = Stack(folder, programs, {**own, "OMP_NUM_THREADS": "1", "STEMS_DEVICE": "cpu"}, workers)
        self.stack.start()
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
def test_two_workers(tmp_path: Path, programs: Programs) -> None:
    weights(tmp_path)
    part_s = TWO_S / 4 + 0.25
    own = {"STEMS_MODEL": NAME, "STEMS_MODEL_DIR": str(tmp_path), "STEMS_PART_S": str(part_s)}
    print(f"\n{machine()}\na network of htdemucs' size, one thread a worker, {TWO_S} s in four parts, four MP3s")
    gains = []
    with ExitStack() as ending:
        pipelines = {}
        for workers in (1, 2):
            pipelines[workers] = ending.enter_context(Timed(tmp_path / f"workers-{workers}", programs, workers, own))
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
        took = deliveries(stack, path.name)
        print(f"  {len(took)} deliveries that were answered, in s: {took}")
        assert max(took) < LIMIT_S
        # One for the worker that was killed, one for what was in work when Redis forgot that it was.
        assert begun.total() <= len(begun) + 2
    finally:
        hands.close()
        stack.stop()


def deliveries(stack: Stack, key: str) -> list[float]:
    """Return the seconds that the deliveries of a song and of its parts took, the longest first; none took too long."""
    log = (stack.root / "logs" / "relay.log").read_text(errors="replace")
    lines = [line for line in log.splitlines() if f"key={key}" in line]
    late = [line for line in lines if re.search(r"no answer from \S+ in time", line)]
    assert late == []
    return sorted((float(found[1]) for line in lines if (found := re.search(r" seconds=([\d.]+)", line))), reverse=True)


class Endless(Shelf):
    """A shelf on which every part of every stem is there: one sound over and over."""

    def __init__(self, storage: Storage, sound: bytes) -> None:
        super().__init__(storage, "0" * 64, "0" * 16)
        self._sound = sound

    def sound(self, name: str, stem: str, length: int) -> Iterator[bytes]:
        """Yield the `length` bytes of a stem of a part."""
        while length:
            chunk = self._sound[:length]
            yield chunk
            length -= len(chunk)


@pytest.mark.bench
@pytest.mark.timeout(7200)
def test_join_of_one_stem(tmp_path: Path) -> None:
    path, length = lasting(tmp_path / "song.mp3", 30), HOURS * 3600 * 44100
    music = audio.decode(path, tmp_path / "song.f32", sample_rate_hz=44100, channels=2).path.read_bytes()
    settings = Settings.from_env({"STEMS_S3_ACCESS_KEY": "-", "STEMS_S3_SECRET_KEY": "-"})
    shelf = Endless(Storage(settings), music)
    count, stride = HOURS * 12, 300 * 44100
    plan = Plan(
        id=shelf.id, songhash=shelf.songhash, length=length, sample_rate_hz=44100, channels=2, mean=0, deviation=1,
        stride=stride, cuts=tuple(range(count + 1)), model="untrained", stems=("vocals",), formats=("mp3",),
        apart=True, title="long", tags={}, cover=False,
    )  # fmt: skip
    print(f"\n{machine()}\n{HOURS} h of one stem to MP3, as the end of a long song makes it, its sound in memory")
    times: dict[str, tuple[float, float]] = {}
    with timed("join", times):
        (made,) = join.join(shelf, plan, plan.stems, 0.99, tmp_path, lambda part: None)
    print(f"    {made.path.stat().st_size / 1e6:.0f} MB")
    made.path.unlink()
