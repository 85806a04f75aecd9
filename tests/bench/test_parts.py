"""A song in parts, in one process: what each step takes, what dividing costs one worker, the end of the longest.

ROUNDS=5: more rounds than three. LENGTH_S=20: a shorter song than ten minutes; HOURS=12: the end of a song of twelve
hours, instead of one.
"""

import os
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided
from stems.separate import audio, join
from stems.separate.job import Worker
from stems.separate.plan import Plan
from stems.separate.shelf import Shelf
from stems.separate.work import Stages
from stems.storage import Storage
from tests.bench.machine import machine
from tests.bench.test_separate import NAME, weights
from tests.bench.tree import Tree
from tests.cluster.songs import lasting
from tests.minio_server import SECRETS, Server, minio

ROUNDS = int(os.environ.get("ROUNDS") or 3)
LENGTH_S = int(os.environ.get("LENGTH_S") or 600)
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
