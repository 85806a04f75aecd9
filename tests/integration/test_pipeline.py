"""A song dropped into `queue` comes out as stems, whatever it is called and however it was sent."""

import hashlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from minio import Minio

from stems import naming
from tests.pipeline import RATE_HZ, Pipeline, samples, song, wait_for
from tests.programs import need

FOUR = {"drums", "bass", "other", "vocals"}


def stems_of(track: dict[str, Any]) -> set[tuple[str, str]]:
    return {(stem["stem"], stem["format"]) for stem in track["stems"]}


def test_mc_cp_gives_four_stems_as_long_as_the_song(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "first.wav", seed=1, duration_s=9.5)
    pipeline.mc("cp", str(path), "stems/queue/")

    track = pipeline.done("first.wav")

    assert track["songhash"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert track["name"] == "first.wav"
    assert track["model"]["name"] == "untrained"
    assert "no separation" in track["model"]["note"]
    assert stems_of(track) == {(stem, "mp3") for stem in FOUR}
    listed = pipeline.mc("ls", "stems/output/")
    for stem in FOUR:
        assert f"{track['songhash']}-{stem}.mp3" in listed
        audio = pipeline.download(f"/v1/tracks/{track['songhash']}/{stem}")
        assert len(samples(audio)) == round(9.5 * RATE_HZ)


@pytest.mark.parametrize(
    "key",
    [
        "with spaces.wav",
        "plus+and%percent%20.wav",
        "Ünïcödé – 日本語 🎵.wav",
        "an album/disc 1/01 deep.wav",
        "quotes\"and'more&=?#.wav",
    ],
)
def test_any_key_is_a_song(pipeline: Pipeline, tmp_path: Path, key: str) -> None:
    path = song(tmp_path / "odd.wav", seed=sum(key.encode()))
    pipeline.put(path, key)
    track = pipeline.done(key)
    assert track["name"] == key.rsplit("/", 1)[-1]


def test_a_big_upload_in_parts(pipeline: Pipeline, tmp_path: Path) -> None:
    # Eight channels at 96 kHz: many bytes, few seconds.
    path = song(tmp_path / "big.wav", seed=3, duration_s=46, rate_hz=96000, channels=8)
    assert path.stat().st_size > 64 << 20
    pipeline.mc("cp", str(path), "stems/queue/")
    track = pipeline.done("big.wav")
    assert track["duration_s"] == pytest.approx(46, abs=0.01)


def test_boto3_upload(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "boto.wav", seed=4)
    client = boto3.client(
        "s3",
        endpoint_url=pipeline.stack.s3_url,
        aws_access_key_id="uploader",
        aws_secret_access_key=pipeline.stack.keys["uploader"],
        region_name="us-east-1",
    )
    client.upload_file(str(path), "queue", "boto.wav", ExtraArgs={"Metadata": {"stems": "bass"}})
    assert stems_of(pipeline.done("boto.wav")) == {("bass", "mp3")}


def test_the_same_bytes_are_separated_once(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "twice.wav", seed=5)
    pipeline.put(path, "one name.wav")
    first = pipeline.done("one name.wav")
    etag = pipeline.put(path, "another name.wav")
    again = pipeline.done("another name.wav")
    assert again == first
    assert pipeline.settled("another name.wav", etag)["reused"] == "1"


def test_the_same_upload_again_is_answered_again(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "again.wav", seed=6)
    etag = pipeline.put(path, "again.wav")
    pipeline.done("again.wav")
    pipeline.settled("again.wav", etag)
    pipeline.put(path, "again.wav", {"stems": "vocals", "format": "flac"})

    def both() -> bool:
        return {("vocals", "flac"), ("vocals", "mp3")} <= stems_of(pipeline.done("again.wav"))

    wait_for("the flac beside the mp3", both)


def test_waveforms_lie_beside_the_stems_and_keep_those_made_earlier(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "drawn.wav", seed=10)
    pipeline.put(path, "drawn.wav", {"stems": "vocals,no_vocals", "format": "wav-16"})
    pipeline.done("drawn.wav")
    pipeline.put(path, "drawn.wav", {"stems": "drums", "format": "wav-32f"})
    wait_for("the drums", lambda: ("drums", "wav") in stems_of(pipeline.done("drawn.wav")))

    def read(name: str) -> Any:
        answer = pipeline.s3.get_object("output", name)
        return json.loads(answer.read())

    record = read(f"{hashlib.sha256(path.read_bytes()).hexdigest()}.json")
    assert {(stem["stem"], stem["quality"]) for stem in record["stems"]} == {
        ("vocals", "16"), ("no_vocals", "16"), ("drums", "32f"),
    }  # fmt: skip
    peaks = read(record["peaks"])
    assert (peaks["length"], peaks["sample_rate_hz"]) == (len(samples(path.read_bytes())), 44100)
    assert {stem: len(points) for stem, points in peaks["stems"].items()} == dict.fromkeys(
        ("vocals", "no_vocals", "drums"), 2000
    )


def test_overwriting_a_key_separates_the_new_bytes_too(pipeline: Pipeline, tmp_path: Path) -> None:
    old, new = song(tmp_path / "old.wav", seed=7), song(tmp_path / "new.wav", seed=8)
    first = pipeline.put(old, "same key.wav")
    pipeline.done("same key.wav", first)
    second = pipeline.put(new, "same key.wav")
    track = pipeline.done("same key.wav", second)
    assert track["songhash"] == hashlib.sha256(new.read_bytes()).hexdigest()
    old_track = pipeline.get(f"/v1/tracks/{hashlib.sha256(old.read_bytes()).hexdigest()}")
    assert stems_of(old_track) == {(stem, "mp3") for stem in FOUR}


def test_options_come_as_metadata(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "karaoke.wav", seed=9)
    pipeline.mc("cp", "--attr", "stems=vocals,no_vocals;format=flac", str(path), "stems/queue/")
    track = pipeline.done("karaoke.wav")
    assert stems_of(track) == {("vocals", "flac"), ("no_vocals", "flac")}
    vocals, rest = (samples(pipeline.download(f"/v1/tracks/{track['songhash']}/{s}")) for s in ("vocals", "no_vocals"))
    mix = samples(path.read_bytes())
    assert abs(vocals + rest - mix).max() < 1e-5, "a stem and its complement are the song"


@pytest.mark.parametrize(
    ("name", "metadata", "reason"),
    [
        ("kazoo.wav", {"stems": "kazoo"}, "kazoo"),
        ("ogg.wav", {"format": "ogg"}, "mp3, flac, wav"),
        ("model.wav", {"model": "nothing"}, "nothing"),
    ],
)
def test_a_wrong_option_is_a_dead_letter_that_names_it(
    pipeline: Pipeline, tmp_path: Path, name: str, metadata: dict[str, str], reason: str
) -> None:
    pipeline.put(song(tmp_path / name, seed=10), name, metadata)
    assert pipeline.ended(name)["state"] == "failed"
    failed = {job["key"]: job for job in pipeline.queue()["failed"]["jobs"]}
    assert reason in failed[name]["error"]


def test_bad_files_die_with_a_reason_and_the_next_song_flows_on(pipeline: Pipeline, tmp_path: Path) -> None:
    empty, text, cut = (tmp_path / name for name in ("empty.mp3", "text.mp3", "cut.flac"))
    empty.write_bytes(b"")
    text.write_text("these are the words of a song, but not its sound\n" * 50)
    whole = tmp_path / "whole.flac"
    subprocess.run(
        [need("ffmpeg"), "-v", "error", "-i", str(song(tmp_path / "w.wav", seed=11, duration_s=20)), str(whole)],
        check=True,
    )
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for path in (empty, text, cut, song(tmp_path / "after.wav", seed=12)):
        pipeline.mc("cp", str(path), "stems/queue/")

    pipeline.done("after.wav")
    for path, reason in ((empty, "empty"), (text, "not an audio file"), (cut, "truncated")):
        assert pipeline.ended(path.name)["state"] == "failed"
        failed = {job["key"]: job for job in pipeline.queue()["failed"]["jobs"]}
        assert reason in failed[path.name]["error"]
        assert reason in pipeline.mc("tag", "list", f"stems/queue/{path.name}")
    status = stems(pipeline, "status")
    assert "empty.mp3" in status
    assert "truncated" in status


def test_an_upload_removed_before_its_turn_is_let_go(pipeline: Pipeline, tmp_path: Path) -> None:
    first = pipeline.put(song(tmp_path / "long.wav", seed=13, duration_s=40), "in front.wav")
    etag = pipeline.put(song(tmp_path / "gone.wav", seed=14), "gone.wav")
    pipeline.s3.remove_object("queue", "gone.wav")
    assert pipeline.settled("gone.wav", etag)["state"] == "gone"
    pipeline.done("in front.wav", first)


def test_the_list_comes_back_after_redis_lost_everything(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.put(song(tmp_path / "kept.wav", seed=15), "kept.wav")
    kept = pipeline.done("kept.wav")
    before = {track["songhash"] for track in pipeline.get("/v1/tracks?limit=1000")["tracks"]}
    pipeline.redis.flushall()
    after = wait_for("the list", lambda: pipeline.get("/v1/tracks?limit=1000").get("tracks"))
    assert {track["songhash"] for track in after} == before
    assert kept["songhash"] in before


def test_dead_letters_come_back_after_redis_lost_everything_but_dropped_ones(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    for name in ("kept dead.mp3", "dropped dead.mp3"):
        (tmp_path / name).write_text(f"{name} has no sound\n")
        etag = pipeline.put(tmp_path / name, name)
        pipeline.ended(name, etag)
    stems(pipeline, "dead", "drop", naming.job_id("queue", "dropped dead.mp3", etag))
    assert pipeline.tags("dropped dead.mp3")["state"] == "dropped"
    pipeline.redis.flushall()

    def failed() -> dict[str, str] | None:
        found = {job["key"]: job["error"] for job in pipeline.queue()["failed"]["jobs"]}
        return found if "kept dead.mp3" in found else None

    found = wait_for("the sweep", failed)
    assert "not an audio file" in found["kept dead.mp3"]
    assert "dropped dead.mp3" not in found


def test_a_stem_that_was_removed_is_made_again(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "expired.wav", seed=17)
    pipeline.put(path, "expired.wav")
    track = pipeline.done("expired.wav")
    root = Minio(
        f"127.0.0.1:{pipeline.stack.ports['minio']}",
        "root",
        pipeline.stack.keys["root"],
        secure=False,
        region="us-east-1",
    )
    root.remove_object("output", naming.stem_object(track["songhash"], "bass", "mp3"))
    root._http.clear()
    pipeline.put(path, "expired again.wav")
    again = pipeline.done("expired again.wav")
    assert stems_of(again) == stems_of(track)
    assert pipeline.download(f"/v1/tracks/{track['songhash']}/bass")


def test_a_song_is_found_under_each_of_its_names(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "two names.wav", seed=18)
    for key in ("first name.wav", "second name.wav"):
        pipeline.put(path, key)
        pipeline.done(key)
        stems(pipeline, "get", "-f", "-o", str(tmp_path / key), key)
        assert len(list((tmp_path / key).glob("*/*.mp3"))) == 4


def test_a_folder_is_no_song(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.s3.put_object("queue", "made in a console/", io.BytesIO(b""), 0)
    etag = pipeline.put(song(tmp_path / "in it.wav", seed=19), "made in a console/in it.wav")
    pipeline.done("made in a console/in it.wav", etag)
    assert "made in a console/" not in [job["key"] for job in pipeline.queue()["failed"]["jobs"]]


def stems(pipeline: Pipeline, *arguments: str) -> str:
    """Run a command as the user `uploader`."""
    environ = {**os.environ, **pipeline.stack.environ("uploader")}
    return subprocess.run([need("stems"), *arguments], env=environ, capture_output=True, text=True, check=True).stdout


def test_progress_is_told_while_a_song_is_separated(pipeline: Pipeline, tmp_path: Path) -> None:
    etag = pipeline.put(song(tmp_path / "watched.wav", seed=16, duration_s=60), "watched.wav")
    seen: set[float] = set()

    def look() -> bool:
        for job in pipeline.queue()["running"]["jobs"]:
            if job["key"] == "watched.wav":
                seen.add(job["progress"])
        return pipeline.tags("watched.wav").get("state") == "done"

    wait_for("the end", look)
    assert len({part for part in seen if 0 < part < 1}) >= 3
    assert pipeline.settled("watched.wav", etag)["state"] == "done"


def test_nothing_is_left_in_line(pipeline: Pipeline) -> None:
    def idle() -> bool:
        queue = pipeline.queue()
        return bool(queue["waiting"]["count"] == queue["running"]["count"] == 0)

    wait_for("an empty line", idle)
    assert not pipeline.redis.keys("stems:lease:*")
    assert not pipeline.redis.keys("stems:processing:*")
    assert pipeline.redis.hlen(naming.ATTEMPTS) == 0
