"""Songs in parts: what each step takes, what dividing costs one worker, what two gain, and who waits for whom.

LONG_MIN=180: ten short songs behind one of three hours, instead of five minutes; HOURS=12: the end of one of twelve,
instead of one.
"""

import hashlib
import os
import resource
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from tests.cluster.songs import lasting
from tests.conftest import QUICK
from tests.integration.test_long import Long, kill
from tests.minio_server import SECRETS, Server, minio
from tests.pipeline import Pipeline, wait_for

LENGTH_S, PART_S = 50, 26
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
@pytest.mark.timeout(3600)
def test_one_worker(server: Server, tmp_path: Path) -> None:
    weights(tmp_path)
    whole, parted = (
        put(server, lasting(tmp_path / "whole.mp3", LENGTH_S)),
        put(server, lasting(tmp_path / "parts.mp3", LENGTH_S)),
    )
    one, other = worker(server, tmp_path, 0), worker(server, tmp_path, PART_S)
    for each in (one, other):
        each.load_model()
    for each in (one, other):
        each.do(put(server, lasting(tmp_path / f"warm-{id(each)}.mp3", 8)), Stages())
    print(f"\n{machine()}\n{LENGTH_S} s of music, four MP3s; in parts of {PART_S} s")
    times: dict[str, tuple[float, float]] = {}
    stages = Stages()
    with timed("whole", times):
        one.do(whole, stages)
    print(f"    {stages.seconds}")
    stages = Stages()
    with timed("plan", times):
        answer = other.do(parted, stages)
    print(f"    {stages.seconds}")
    assert isinstance(answer, Divided)
    for wanted in answer.wanted(parted):
        with timed(wanted.name, times):
            other.make(wanted)
        print(f"    {Shelf(other._storage, wanted.songhash, wanted.plan).about(wanted.name).stages_s}")
    size = sum(item.size or 0 for item in server.login("root").list_objects("output", "parts/", recursive=True))
    print(f"    {size / 1e6:.0f} MB of parts: {size / 1e6 / LENGTH_S * 60:.0f} MB for each minute of music")
    stages = Stages()
    with timed("join", times):
        track = other.do(parted, stages)
    assert not isinstance(track, Divided)
    print(f"    {stages.seconds}")
    wall, spent = (sum(each[kind] for name, each in times.items() if name != "whole") for kind in (0, 1))
    print(f"  in parts / whole: {wall / times['whole'][0]:.3f} wall, {spent / times['whole'][1]:.3f} of processors")


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
@pytest.mark.timeout(1800)
def test_two_workers(tmp_path: Path, programs: Programs) -> None:
    weights(tmp_path)
    own = {"STEMS_MODEL": NAME, "STEMS_MODEL_DIR": str(tmp_path), "STEMS_PART_S": "25"}
    print(f"\n{machine()}\na network of htdemucs' size, one thread a worker, 99 s in parts of 25 s, four MP3s")
    seconds: dict[int, float] = {}
    for workers in (1, 2):
        with Timed(tmp_path / f"workers-{workers}", programs, workers, own) as pipeline:
            pipeline.shorts(tmp_path, f"first of {workers}", workers)  # whatever the first song of a worker costs
            seconds[workers], stages_s = pipeline.took(lasting(tmp_path / "song.mp3", 99))
            print(f"  {workers}: {seconds[workers]:.1f} s; of all workers together {stages_s}")
    print(f"  {seconds[1] / seconds[2]:.2f} times sooner")


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
    print(f"\n{machine()}\nmodel untrained; 60 min in parts of 5, 60 s for a request; killed in a part, Redis emptied")
    own = {"STEMS_PART_S": "300", "STEMS_DELIVERY_TIMEOUT_S": "60", "STEMS_LOG_LEVEL": "INFO"}
    stack = Stack(tmp_path / "hour", programs, QUICK | own)
    stack.start()
    hands = Long(stack)
    try:
        path, started = lasting(tmp_path / "hour.mp3", 3600), time.monotonic()
        songhash = hashlib.sha256(path.read_bytes()).hexdigest()
        etag = hands.put(path, path.name)
        wait_for("a third of the parts", lambda: hands.there(songhash) >= 4, 1200)
        kill(stack.pid("pipeline:separate"))
        wait_for("half of the parts", lambda: hands.there(songhash) >= 6, 1200)
        hands.redis.flushall()
        track = hands.done(path.name, etag, 3600)
        print(f"  there after {time.monotonic() - started:.0f} s: {track['stages_s']}")
        print(f"  how often each part was begun: {sorted(hands.begun(path.name).items())}")
    finally:
        hands.close()
        stack.stop()


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
