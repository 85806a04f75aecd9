"""Songs made in parts, as they are long for a request; long for the settings; whole ones that outlive their request."""

import json
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from stems import naming
from tests.cluster.conftest import Say
from tests.cluster.deployment import ONCE, Service
from tests.cluster.inside import Inside
from tests.cluster.songs import lasting
from tests.cluster.watch import Watch
from tests.pipeline import samples, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
LIMIT_MIB = 1280
MAX_SCALE = 3
# As size/kustomization.yaml has it.
PART_S = 150


def test_twenty_minutes_in_parts_over_three_pods(service: Service, tmp_path: Path, say: Say) -> None:
    service.settle()
    key = "twenty minutes.mp3"
    path = lasting(tmp_path / key, 8 * PART_S)
    with Watch(service.space, "separate") as pods:
        with Inside(service.space) as inside:
            started = monotonic()
            track = service.done(key, service.put(path, key), 1500)
            seconds = monotonic() - started
        service.idle()
    say(f"a song of {track['duration_s'] / 60:.0f} minutes after {seconds:.0f} s: {track['stages_s']}")
    say(f"pods over time:\n{pods.table()}\nand what each made:\n{inside.table(key)}")
    assert len(inside.parts(key)) == pods.most() == MAX_SCALE
    begun = service.parts(key)
    assert len(begun) >= 8 + len(track["stems"])  # the stems are joined each by itself
    # Whatever the platform ends meanwhile: a part is begun again where its delivery failed, and nowhere else.
    failures = service.failures(key)
    say(f"deliveries that failed: {failures}")
    assert begun.total() - len(begun) <= len(failures)
    assert service.separations(key) == (0, 1)
    assert all(100 < seen.held < LIMIT_MIB and seen.restarts == 0 for seen in inside.pods.values()), inside.pods
    assert_whole(service, track, path)


def test_a_pod_killed_in_the_middle_costs_its_part(service: Service, tmp_path: Path, say: Say) -> None:
    key = "killed in parts.mp3"
    path = lasting(tmp_path / key, 6 * PART_S)
    with Watch(service.space, "separate") as pods, Inside(service.space) as inside:
        started = monotonic()
        etag = service.put(path, key)
        pod = wait_for("a pod at its second part", lambda: inside.busiest(key, 2), 300)
        service.space.kill(pod)
        killed = monotonic() - started
        track = service.done(key, etag, 1500)
    begun = service.parts(key)
    again = begun - Counter({*begun})
    say(f"{pod} killed after {killed:.0f} s; begun again: {[*again.elements()]} of {len(begun)}")
    say(f"pods over time:\n{pods.table()}\nand what each made:\n{inside.table(key)}")
    assert again.total() <= 1
    assert service.separations(key) == (0, 1)
    assert_whole(service, track, path)


def assert_whole(service: Service, track: dict[str, Any], path: Path) -> None:
    """Assert that a divided song's stems are as long as it is, to the sample, and that nothing is left of its parts."""
    length = len(samples(path.read_bytes()))
    for stem in track["stems"]:
        sound = samples(service.download(f"/v1/tracks/{track['songhash']}/{stem['stem']}"))
        assert len(sound) == length, stem
        assert all(np.abs(part).max() > 0.001 for part in np.array_split(sound, 8)), stem
    left = service.s3.list_objects(naming.OUTPUT_BUCKET, naming.PARTS_FOLDER, recursive=True)
    assert [each.object_name for each in left] == []


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
