"""A song in parts through the whole pipeline: whatever is killed or lost, no part is made twice for nothing."""

import collections
import hashlib
import os
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stems import naming
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.conftest import QUICK
from tests.pipeline import Pipeline, samples, song, wait_for
from tests.programs import need

PART_S, DURATION_S, PARTS = 6, 47, 8
_MADE = re.compile(r"making a part .*part=(part-\d+-of-\d+)")


def kill(pid: int) -> None:
    """Kill a process and its children, as a node that fails does; gunicorn's worker is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for victim in [pid, *map(int, children)]:
        os.kill(victim, signal.SIGKILL)


class Long(Pipeline):
    """A pipeline that divides songs."""

    def objects(self, songhash: str) -> dict[str, str]:
        """Return what there is of a divided song: by name, the time of its last change."""
        found = self.s3.list_objects("output", naming.part_folder(songhash), recursive=True)
        return {(item.object_name or "").rsplit("/", 1)[-1]: str(item.last_modified) for item in found}

    def there(self, songhash: str) -> int:
        """Return how many parts of a song are there."""
        return sum(name.startswith("part-") and name.endswith(".json") for name in self.objects(songhash))

    def begun(self, key: str) -> collections.Counter[str]:
        """Return how often each part of a song was begun, by the log of the worker."""
        log = (self.stack.root / "logs" / "separate.log").read_text(errors="replace")
        lines = [line for line in log.splitlines() if f"key={key}" in line]
        return collections.Counter(found[1] for line in lines if (found := _MADE.search(line)))


@pytest.fixture(scope="module")
def long(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    need("stems")
    own = {"STEMS_PART_S": str(PART_S), "STEMS_LOG_LEVEL": "INFO"}
    stack = Stack(tmp_path_factory.mktemp("long"), programs, QUICK | own)
    stack.start()
    pipeline = Long(stack)
    yield pipeline
    pipeline.close()
    stack.stop()


@pytest.fixture
def put(long: Long, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[int], tuple[str, str, str]]:
    def upload(seed: int) -> tuple[str, str, str]:
        path = song(tmp_path / f"{request.node.name}.wav", seed=seed, duration_s=DURATION_S)
        songhash = hashlib.sha256(path.read_bytes()).hexdigest()
        return path.name, long.put(path, path.name, {"stems": "vocals"}), songhash

    return upload


Put = Callable[[int], tuple[str, str, str]]


def cancel(long: Long, job: str) -> None:
    address = f"{long.settings.tracks_url}/v1/jobs/{job}"
    with urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30) as answer:
        assert answer.status == 202


def finished(long: Long, key: str, songhash: str, again: int) -> None:
    """Wait for the track; each part was made once, but for so many."""
    track = wait_for("MinIO", lambda: long.done(key, deadline_s=150))
    assert track["duration_s"] == DURATION_S
    assert len(samples(long.download(f"/v1/tracks/{songhash}/vocals"))) == DURATION_S * 44100
    begun = long.begun(key)
    assert len(begun) == PARTS
    assert sum(begun.values()) <= PARTS + again
    wait_for("the end of its parts", lambda: not long.objects(songhash))


def test_a_long_song_is_one_job_and_moves_on(long: Long, put: Put) -> None:
    key, etag, songhash = put(8001)
    job = naming.job_id(naming.QUEUE_BUCKET, key, etag)
    seen: list[float] = []

    def look() -> bool:
        queue = long.queue()
        assert queue.keys() == {"waiting", "running", "failed"}, queue
        shown = [each for line in queue.values() for each in line["jobs"]]
        assert [each["id"] for each in shown] in ([], [job])  # parts are nobody's business
        found = long.get(f"/v1/jobs/{job}")
        seen.append(found["progress"])
        assert found["state"] in {"waiting", "separating", "done"}
        return bool(found["state"] == "done")

    wait_for("the song", look, 150)
    assert seen == sorted(seen)
    assert len({round(each, 1) for each in seen}) > 6
    finished(long, key, songhash, again=0)
    record = long.get(f"/v1/tracks/{songhash}")
    assert record["stages_s"].keys() >= {"fetch", "decode", "separate", "encode", "put"}
    # What is left in Redis is what any song leaves.
    client = long.redis
    for name in (naming.PARTS, naming.DIVIDED, naming.ATTEMPTS, naming.parts_key(job)):
        wait_for(name, lambda name=name: not client.exists(name))  # type: ignore[misc]
    assert not list(client.scan_iter(f"stems:job:p{job}*"))


@pytest.mark.timeout(300)
def test_a_worker_killed_in_the_middle_costs_one_part(long: Long, put: Put) -> None:
    key, _, songhash = put(8002)
    wait_for("the middle", lambda: long.there(songhash) >= PARTS // 2, 120)
    kill(long.stack.pid("pipeline:separate"))
    finished(long, key, songhash, again=1)


@pytest.mark.timeout(300)
def test_a_relay_killed_before_the_parts_are_in_line_costs_nothing(long: Long, put: Put) -> None:
    relay = long.stack.pid("pipeline:relay")
    key, etag, songhash = put(8003)
    wait_for("the start", lambda: long.job(key, etag).get("state") == "separating")
    os.kill(relay, signal.SIGSTOP)  # whatever the worker answers, the relay does not hear it
    planned = wait_for("the plan", lambda: long.objects(songhash).get("plan.json"))
    assert not long.redis.exists(naming.DIVIDED)
    os.kill(relay, signal.SIGKILL)
    wait_for("the first part", lambda: long.there(songhash), 60)
    assert long.objects(songhash)["plan.json"] == planned  # the song was not decoded again
    finished(long, key, songhash, again=0)


@pytest.mark.timeout(300)
def test_redis_flushed_in_the_middle_costs_one_part(long: Long, put: Put) -> None:
    key, _, songhash = put(8004)
    wait_for("the middle", lambda: long.there(songhash) >= PARTS // 2, 120)
    planned = long.objects(songhash)["plan.json"]
    long.redis.flushall()
    wait_for("the next part", lambda: long.there(songhash) > PARTS // 2 + 1, 60)
    assert long.objects(songhash)["plan.json"] == planned
    finished(long, key, songhash, again=1)


@pytest.mark.timeout(300)
def test_a_long_song_that_is_cancelled_stops_and_leaves_nothing(long: Long, put: Put) -> None:
    key, etag, songhash = put(8005)
    wait_for("the first parts", lambda: long.there(songhash) >= 2, 120)
    job = naming.job_id(naming.QUEUE_BUCKET, key, etag)
    cancel(long, job)
    assert long.job(key, etag)["state"] == "cancelled"
    assert not long.redis.exists(naming.PARTS, naming.DIVIDED, naming.parts_key(job))
    deliveries = list(long.redis.scan_iter("stems:delivering:*"))
    wait_for("the worker", lambda: not any(map(long.redis.smembers, deliveries)))
    assert long.tags(key)["state"] == "cancelled"
    assert not long.objects(songhash)
    # Uploaded again, it is a song like any other.
    begun = sum(long.begun(key).values())
    put(8005)
    finished(long, key, songhash, again=begun)
    assert begun >= 2


@pytest.mark.timeout(300)
def test_what_lies_there_of_a_song_that_is_cancelled_while_it_waits_goes(long: Long, put: Put, tmp_path: Path) -> None:
    key, _, songhash = put(8008)
    wait_for("the first part", lambda: long.there(songhash), 120)
    path = song(tmp_path / "waits.wav", seed=8009, duration_s=DURATION_S + 9)  # longer: its parts wait for the others
    waits = hashlib.sha256(path.read_bytes()).hexdigest()
    job = naming.job_id(naming.QUEUE_BUCKET, path.name, long.put(path, path.name, {"stems": "vocals"}))
    wait_for("its division", lambda: long.redis.exists(naming.parts_key(job)), 60)
    assert {"mix.f32", "plan.json"} <= long.objects(waits).keys()
    cancel(long, job)
    wait_for("its end", lambda: not long.objects(waits), 60)
    assert long.redis.exists(naming.DIVIDED)  # the other is on its way yet
    assert not long.begun(path.name)
    finished(long, key, songhash, again=0)


@pytest.mark.timeout(300)
def test_the_parts_of_an_upload_that_was_removed_or_overwritten_are_not_made(long: Long, put: Put) -> None:
    key, etag, songhash = put(8006)
    wait_for("the first part", lambda: long.there(songhash), 120)
    long.s3.remove_object(naming.QUEUE_BUCKET, key)
    assert long.settled(key, etag)["state"] == "gone"
    made = len(long.begun(key))
    assert made < PARTS
    assert not long.objects(songhash)
    # The same again; then the key is another song's.
    key, etag, _ = put(8006)
    wait_for("the next part", lambda: len(long.begun(key)) > made, 60)
    later = song(long.stack.root / "later.wav", seed=8007)
    long.done(key, long.put(later, key, {"stems": "vocals"}))
    assert long.settled(key, etag)["state"] == "gone"
    assert made < len(long.begun(key)) < PARTS
    assert not long.redis.exists(naming.PARTS, naming.DIVIDED, naming.parts_key(naming.job_id("queue", key, etag)))
