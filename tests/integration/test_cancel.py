"""A song is cancelled in the middle: its worker stops between two segments, and the next song comes."""

import urllib.request
from pathlib import Path

from stems import naming
from tests.pipeline import Pipeline, song, wait_for


def test_a_song_in_work_stops_and_the_next_one_comes(pipeline: Pipeline, tmp_path: Path) -> None:
    long = song(tmp_path / "long.wav", seed=7701, duration_s=400)
    etag = pipeline.put(long, "long.wav")
    pipeline.in_the_middle("long.wav", etag)
    job = naming.job_id(naming.QUEUE_BUCKET, "long.wav", etag)
    address = f"{pipeline.settings.tracks_url}/v1/jobs/{job}"
    with urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30) as answer:
        assert answer.status == 202
    progress = float(pipeline.job("long.wav", etag)["progress"])
    next_ = song(tmp_path / "next.wav", seed=7702)
    assert pipeline.done("next.wav", pipeline.put(next_, "next.wav"))["name"] == "next.wav"
    wait_for("the end of it", lambda: "cancel" not in pipeline.job("long.wav", etag))
    found = pipeline.get(f"/v1/jobs/{job}")
    assert (found["state"], found["url"], found["progress"]) == ("cancelled", None, progress)
    assert pipeline.tags("long.wav")["state"] == "cancelled"
    songhash = pipeline.job("long.wav", etag)["songhash"]
    assert pipeline.get(f"/v1/tracks/{songhash}")["status"] == 404
    # Uploaded again, as it is, it is a song like any other.
    short = song(tmp_path / "long.wav", seed=7703, duration_s=2)
    assert pipeline.done("long.wav", pipeline.put(short, "long.wav"))["duration_s"] == 2
