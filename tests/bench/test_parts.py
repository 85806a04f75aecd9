"""Songs in parts: what each step takes, what dividing costs one worker, what two gain, and who waits for whom."""

import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided
from stems.separate.job import Worker
from stems.separate.shelf import Shelf
from stems.separate.work import Stages
from stems.storage import Storage
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.bench.machine import machine
from tests.bench.test_separate import NAME, weights
from tests.cluster.songs import lasting
from tests.minio_server import SECRETS, Server, minio
from tests.pipeline import Pipeline, wait_for

LENGTH_S, PART_S = 50, 26


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
        print(f"    {Shelf(other._storage, wanted.songhash, wanted.plan).about(wanted.name)['stages_s']}")
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

    def __init__(self, folder: Path, programs: Programs, workers: int) -> None:
        own = {"STEMS_MODEL": "untrained", "STEMS_PART_S": "10", "OMP_NUM_THREADS": "1"}
        self.stack = Stack(folder, programs, own, workers)
        self.stack.start()
        self.hands = Pipeline(self.stack)

    def close(self) -> None:
        self.hands.close()
        self.stack.stop()

    def took(self, path: Path, key: str) -> float:
        """Return the seconds from the upload of a song to its end."""
        started = time.monotonic()
        self.hands.done(key, self.hands.put(path, key), 300)
        return time.monotonic() - started

    def shorts(self, folder: Path, name: str) -> list[float]:
        """Upload ten songs of 8 s at once; return how long each took."""
        paths = [lasting(folder / f"{name} {number}.mp3", 8) for number in range(10)]
        started, ended = time.monotonic(), dict.fromkeys((path.name for path in paths), 0.0)
        for path in paths:
            self.hands.put(path, path.name)
        while not all(ended.values()):
            for key in [key for key, at in ended.items() if not at]:
                if self.hands.tags(key).get("state") == "done":
                    ended[key] = time.monotonic() - started
            time.sleep(0.05)
        return sorted(ended.values())


@pytest.fixture
def timed_pipelines(tmp_path: Path, programs: Programs) -> Iterator[list[Timed]]:
    made = [Timed(tmp_path / f"workers-{workers}", programs, workers) for workers in (1, 2)]
    yield made
    for each in made:
        each.close()


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_two_workers_and_who_waits(tmp_path: Path, timed_pipelines: list[Timed]) -> None:
    one, two = timed_pipelines
    print(f"\n{machine()}\nmodel untrained, one thread a worker, parts of 10 s, four MP3s")
    took: dict[int, list[float]] = {1: [], 2: []}
    for number in range(3):
        path = lasting(tmp_path / f"song {number}.mp3", 59)
        for workers, each in ((1, one), (2, two)):
            took[workers].append(each.took(path, path.name))
    medians = {workers: statistics.median(seconds) for workers, seconds in took.items()}
    print(f"  59 s of music: {medians} s, {medians[1] / medians[2]:.2f} times sooner; all {took}")
    alone = one.shorts(tmp_path, "alone")
    one.hands.put(lasting(tmp_path / "long.mp3", 300), "long.mp3")
    wait_for("the long one", lambda: one.hands.redis.exists(naming.DIVIDED))
    behind = one.shorts(tmp_path, "behind")
    for name, seconds in (("alone", alone), ("behind a song of 300 s", behind)):
        print(f"  ten of 8 s {name}: median {statistics.median(seconds):.1f} s, last {seconds[-1]:.1f} s")
