"""What dies, or is replaced, in the middle of songs: every song still comes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import Say
from tests.cluster.deployment import ONCE, Service
from tests.cluster.songs import lasting
from tests.cluster.watch import Watch
from tests.pipeline import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
LONG_S = 60


KILLS: dict[str, Callable[[Service], None]] = {
    "separate": lambda service: service.space.kill(service.space.pod("separate")),
    "relay": lambda service: service.space.kill(service.space.pod("relay")),
    "redis": lambda service: service.space.kill("redis-0"),
    "minio": lambda service: service.space.kill("minio-0"),
}


@pytest.mark.parametrize("part", KILLS)
def test_killed_in_the_middle_of_a_song(service: Service, tmp_path: Path, say: Say, part: str) -> None:
    service.settle()
    key, late = f"{part} killed.mp3", f"{part} away.mp3"
    etag = service.put(lasting(tmp_path / key, LONG_S), key)
    service.in_the_middle(key, etag)
    KILLS[part](service)
    # One more while it is away; the client of MinIO tries again by itself.
    service.put(lasting(tmp_path / late, 15), late)
    service.done(key, etag, 900)
    service.done(late, deadline_s=900)
    say(f"{part} killed: both songs came; the one in work was begun and ended {service.separations(key)} times")
    assert service.settled(key, etag, 120)["state"] == "done"


@pytest.mark.parametrize("part", ["redis-0", "minio-0"])
def test_deleted_in_the_middle_of_a_song(service: Service, tmp_path: Path, say: Say, part: str) -> None:
    key = f"{part} deleted.mp3"
    etag = service.put(lasting(tmp_path / key, LONG_S), key)
    service.in_the_middle(key, etag)
    service.space.kubectl("delete", "pod", part, "--wait=false")
    service.done(key, etag, 900)
    say(f"{part} deleted: the song in work was begun and ended {service.separations(key)} times")
    assert service.settled(key, etag, 120)["state"] == "done"


def test_a_rollout_during_work_loses_nothing(service: Service, tmp_path: Path, say: Say) -> None:
    keys = [f"rollout {number}.mp3" for number in range(4)]
    etags = {key: service.put(lasting(tmp_path / key, LONG_S), key) for key in keys}
    service.in_the_middle(keys[0], etags[keys[0]])
    before = service.revision()
    change = {"spec": {"template": {"metadata": {"annotations": {"stems/rolled-out": "yes"}}}}}
    with Watch(service.space, "separate") as pods:
        service.space.kubectl("patch", "ksvc", "separate", "--type=merge", "-p", json.dumps(change))
        wait_for("the new revision", lambda: service.revision() != before, 300)
        say(f"{service.revision()} in place of {before}")
        for key in keys:
            service.done(key, etags[key], 900)
    say(f"pods over time:\n{pods.table()}")
    jobs = {key: service.settled(key, etags[key], 120) for key in keys}
    assert {key: job["state"] for key, job in jobs.items()} == dict.fromkeys(keys, "done")
    assert {key: service.separations(key) for key in keys} == dict.fromkeys(keys, ONCE)
