"""Songs from outside the cluster come out as stems, and pods of `separate` go 0 to max-scale to 0 with them."""

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

from tests.cluster.conftest import Say
from tests.cluster.deployment import ONCE, Service
from tests.cluster.songs import lasting
from tests.cluster.watch import Watch
from tests.pipeline import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
FOUR = {"drums", "bass", "other", "vocals"}
MAX_SCALE = 3


def test_mc_from_outside(service: Service, tmp_path: Path) -> None:
    service.mc("cp", str(lasting(tmp_path / "by mc.mp3", 20)), "stems/queue/")
    track = service.done("by mc.mp3", deadline_s=300)
    assert {stem["stem"] for stem in track["stems"]} == FOUR
    assert track["duration_s"] == pytest.approx(20, abs=0.1)
    listed = service.mc("ls", "stems/output/")
    assert all(f"{track['songhash']}-{stem}.mp3" in listed for stem in FOUR)
    assert len(service.download(f"/v1/tracks/{track['songhash']}/vocals")) > 100_000
    line = "separated key=by mc.mp3"
    wait_for(f"'{line}' in the log", lambda: line in service.space.kubectl("logs", "deployment/logs"))


def test_a_presigned_url(service: Service, tmp_path: Path) -> None:
    song = lasting(tmp_path / "signed.mp3", 20).read_bytes()
    url = service.s3.presigned_put_object("queue", "signed.mp3", expires=timedelta(minutes=5))
    with urllib.request.urlopen(urllib.request.Request(url, song, method="PUT"), timeout=60) as answer:
        assert answer.status == 200
    track = service.done("signed.mp3", deadline_s=300)
    # And out again, with an address that says itself who may read.
    path = f"/v1/tracks/{track['songhash']}/drums?redirect=1"
    assert service.download(path) == service.download(path.removesuffix("?redirect=1"))


def test_a_cold_start(service: Service, tmp_path: Path, say: Say) -> None:
    service.idle()
    path = lasting(tmp_path / "cold.mp3", 20)
    with Watch(service.space, "separate") as pods:
        started = monotonic()
        etag = service.put(path, "cold.mp3")
        put = monotonic()
        wait_for("the song to be in work", lambda: service.job("cold.mp3", etag).get("started_ms"), 300)
        begun = monotonic()
        service.done("cold.mp3", etag, 300)
        done = monotonic()
    say(
        f"from zero: put {put - started:.1f} s, pod there after {pods.first('starting'):.1f} s, ready after "
        f"{pods.first('ready'):.1f} s, song in work {begun - put:.1f} s and stems {done - put:.1f} s after the put"
    )
    etag = service.put(lasting(tmp_path / "warm.mp3", 20), "warm.mp3")
    put = monotonic()
    wait_for("the next one", lambda: service.job("warm.mp3", etag).get("started_ms"))
    begun = monotonic()
    say(f"warm: in work {begun - put:.2f} s after the put")
    service.done("warm.mp3", etag, 300)
    assert service.separations("cold.mp3") == ONCE


def test_ten_songs_at_once(service: Service, tmp_path: Path, say: Say) -> None:
    keys = [f"ten {number}.mp3" for number in range(10)]
    paths = [lasting(tmp_path / key, 20) for key in keys]
    service.idle()
    with Watch(service.space, "separate") as pods, ThreadPoolExecutor(10) as threads:
        list(threads.map(service.put, paths, keys))
        say("ten songs of 20 s put at once")
        for key in keys:
            service.done(key, deadline_s=900)
        say("all of them separated")
        service.idle()
    say(f"pods over time:\n{pods.table()}")
    assert pods.most() == MAX_SCALE
    assert {key: service.separations(key) for key in keys} == dict.fromkeys(keys, ONCE)
