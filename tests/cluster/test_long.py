"""Songs that are long for a pod's memory, for the settings, and for a request."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.conftest import Say
from tests.cluster.deployment import ONCE, Service
from tests.cluster.songs import lasting
from tests.cluster.space import Space
from tests.pipeline import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
LIMIT_MIB = 1024
# Control groups in their second and first version: what programs hold, without the page cache, and the most of both.
HELD = "cd /sys/fs/cgroup; grep -E '^anon ' memory.stat 2>/dev/null || grep -E '^rss ' memory/memory.stat"
PEAK = "cd /sys/fs/cgroup; cat memory.peak 2>/dev/null || cat memory/memory.max_usage_in_bytes"


@dataclass
class Memory:
    """What the pod of a song was seen to hold, in MiB."""

    held: float = 0
    with_cache: float = 0

    def look(self, space: Space, pod: str) -> None:
        inside = ("exec", pod, "-c", "separate", "--", "sh", "-c")
        self.held = max(self.held, int(space.kubectl(*inside, HELD).split()[1]) / 2**20)
        self.with_cache = max(self.with_cache, int(space.kubectl(*inside, PEAK)) / 2**20)


def test_twenty_minutes_fit_into_the_memory_of_a_pod(service: Service, tmp_path: Path, say: Say) -> None:
    service.settle()
    key = "twenty minutes.mp3"
    etag = service.put(lasting(tmp_path / key, 1200), key)
    wait_for("the song to be in work", lambda: service.job(key, etag).get("started_ms"), 300)
    pod, memory, ended = service.space.pod("separate"), Memory(), threading.Event()

    def look() -> None:
        while not ended.wait(3):
            memory.look(service.space, pod)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        track = service.done(key, etag, 1500)
    finally:
        ended.set()
        looking.join()
    (status,) = (each for each in service.space.pods("separate") if each["metadata"]["name"] == pod)
    say(
        f"a song of {track['duration_s'] / 60:.0f} minutes: {track['stages_s']}, memory held {memory.held:.0f} MiB at "
        f"most of {LIMIT_MIB}, with the page cache, which gives way, {memory.with_cache:.0f} MiB"
    )
    assert all(each["restartCount"] == 0 for each in status["status"]["containerStatuses"])
    assert 100 < memory.held < LIMIT_MIB
    assert service.separations(key) == ONCE


def test_longer_than_allowed_is_refused_once_and_says_why(service: Service, tmp_path: Path) -> None:
    key = "half an hour.mp3"
    etag = service.put(lasting(tmp_path / key, 1800), key)
    tags = service.ended(key, etag, 300)
    assert tags["state"] == "failed"
    job = service.settled(key, etag, 120)
    assert "(25:00)" in job["error"], job
    failed = {each["key"]: each for each in service.queue()["failed"]["jobs"]}
    assert failed[key]["attempts"] == 1, failed[key]


def test_longer_than_a_request_may_take(service: Service, tmp_path: Path, say: Say) -> None:
    # The platform cuts the request short; the pod goes on, and the relay asks again until it hears how that ended.
    limit_s, key = 5, "longer than a request.mp3"
    spec = {"timeoutSeconds": limit_s, "responseStartTimeoutSeconds": limit_s}
    # Nor does the autoscaler see the work: the longer delay gives it the time that 600 s for a request would.
    annotations = {"autoscaling.knative.dev/scale-down-delay": "20m"}
    shorten(service, {"spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}}}, limit_s)
    try:
        etag = service.put(lasting(tmp_path / key, 120), key)
        track = service.done(key, etag, 1500)
        job = service.settled(key, etag, 120)
    finally:
        service.space.kubectl("apply", "-k", str(service.deployment.overlay))
        service.space.kubectl("rollout", "status", "deployment/relay", "--timeout=300s")
    assert sum(track["stages_s"].values()) > limit_s, "the song was too quick for this test"
    say(f"{sum(track['stages_s'].values()):.0f} s of work with {limit_s} s for a request: {job['state']}")
    assert service.separations(key) == ONCE


def shorten(service: Service, change: object, limit_s: int) -> None:
    before = service.revision()
    service.space.kubectl("patch", "ksvc", "separate", "--type=merge", "-p", json.dumps(change))
    service.space.kubectl("set", "env", "deployment/relay", f"STEMS_DELIVERY_TIMEOUT_S={limit_s}")
    service.space.kubectl("rollout", "status", "deployment/relay", "--timeout=300s")
    wait_for("the new revision", lambda: service.revision() != before, 300)
