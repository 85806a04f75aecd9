"""A song in parts beside the same song whole: what each step takes, and what dividing costs one worker."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided
from stems.separate.job import Worker
from stems.separate.shelf import Shelf
from stems.separate.work import Stages
from stems.storage import Storage
from tests.bench.machine import machine
from tests.bench.test_separate import NAME, weights
from tests.cluster.songs import lasting
from tests.minio_server import SECRETS, Server, minio

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
