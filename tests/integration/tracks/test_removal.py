"""Tracks that are removed, and tracks that are separated once more."""

import contextlib

import pytest

from stems import lease, naming
from stems.record import Asked
from tests.integration.tracks.test_jobs import enter, show, tags
from tests.sse import Listener
from tests.tracks_stack import SONG, Stack, problem, url


def test_a_removed_track_leaves_nothing_but_its_upload(empty: Stack) -> None:
    upload = empty.upload("in/Söng.mp3")
    track = empty.put(1, name="Söng.mp3", upload=upload, peaks=True, vocals_mp3=SONG, drums_flac=SONG)
    other = empty.put(2, vocals_mp3=SONG)
    for each in (track, other):
        empty.index.add(each)
    assert empty.send("DELETE", f"/v1/tracks/{track.songhash}").status == 204
    left = {item.object_name for item in empty.s3.list_objects("output")}
    assert left == {naming.record_object(other.songhash), other.stems[0].object}
    assert [each["songhash"] for each in empty.get("/v1/tracks").json()["tracks"]] == [other.songhash]
    assert empty.get("/v1/tracks?q=s%C3%B6").json()["tracks"] == []
    found = tags(empty, "in/Söng.mp3")
    assert (found["state"], found["etag"], found["songhash"]) == ("removed", upload.etag, track.songhash)
    for path in (f"/v1/tracks/{track.songhash}", url(track)):
        problem(empty.get(path), 404, track.songhash)
    problem(empty.send("DELETE", f"/v1/tracks/{track.songhash}"), 404, track.songhash)


def test_the_upload_goes_too_where_that_is_asked_for(empty: Stack) -> None:
    upload = empty.upload("a.mp3")
    track = empty.put(1, upload=upload, vocals_mp3=SONG)
    problem(empty.send("DELETE", f"/v1/tracks/{track.songhash}?upload=yes"), 400, "upload=yes")
    assert empty.send("DELETE", f"/v1/tracks/{track.songhash}?upload=1").status == 204
    assert not list(empty.s3.list_objects("queue"))


def test_other_bytes_under_the_same_name_are_left_alone(empty: Stack) -> None:
    upload = empty.upload("a.mp3")
    track = empty.put(1, upload=upload, vocals_mp3=SONG)
    empty.upload("a.mp3", b"another song")
    assert empty.send("DELETE", f"/v1/tracks/{track.songhash}?upload=1").status == 204
    assert tags(empty, "a.mp3") == {}


def test_what_is_about_to_bring_it_back_is_cancelled(empty: Stack) -> None:
    upload = empty.upload("a.mp3")
    track = empty.put(1, upload=upload, vocals_mp3=SONG)
    path = enter(empty, upload, "waiting")
    assert empty.send("DELETE", f"/v1/tracks/{track.songhash}").status == 204
    assert show(empty, path)["state"] == "cancelled"


def test_nothing_is_removed_while_somebody_works_on_the_song(empty: Stack) -> None:
    """A worker that has read the record would write it again, with stems that are not there any more."""
    upload = empty.upload("a.mp3")
    track = empty.put(1, upload=upload, vocals_mp3=SONG)
    path = enter(empty, upload, "waiting")
    with lease.held(empty.redis, track.songhash, 10):
        answer = empty.send("DELETE", f"/v1/tracks/{track.songhash}")
        problem(answer, 409, "another worker")
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
        assert empty.get(url(track)).status == 200
    assert show(empty, path)["state"] == "cancelled", "what works on it may be this, and then ends"
    assert empty.send("DELETE", f"/v1/tracks/{track.songhash}").status == 204


def test_another_separation_that_is_only_announced_is_cancelled_with_it(empty: Stack) -> None:
    track = empty.put(1, upload=empty.upload("a.mp3"), vocals_mp3=SONG)
    job = empty.send("POST", f"/v1/tracks/{track.songhash}/rerun", {}).json()
    assert empty.send("DELETE", f"/v1/tracks/{track.songhash}").status == 204
    known = empty.redis.hgetall(naming.job_key(job["id"]))
    # The relay goes by this when the notification comes; and the sweep by the tag.
    assert (known["state"], int(known["uploaded_ms"]) > 0) == ("cancelled", True)
    assert tags(empty, "a.mp3")["state"] == "removed"


@pytest.mark.parametrize("key", ["a.mp3", "in/Söng & more (live).mp3"])
def test_another_separation_is_asked_for_with_the_upload(empty: Stack, key: str) -> None:
    upload = empty.upload(key)
    empty.tag(upload, "done")
    track = empty.put(1, upload=upload, vocals_mp3=SONG)
    with contextlib.closing(Listener(empty.ports["tracks"]).begin()) as listener:
        answer = empty.send("POST", f"/v1/tracks/{track.songhash}/rerun", {"stems": ["drums"], "format": ["flac"]})
        assert answer.status == 202, answer.data
        job = answer.json()
        assert listener.until("job", id=job["id"]).data == job
    assert (job["state"], job["key"], answer.headers["Location"]) == ("waiting", key, f"/v1/jobs/{job['id']}")
    stored = empty.s3.stat_object("queue", key)
    assert stored.metadata is not None
    assert (stored.metadata["x-amz-meta-stems"], stored.metadata["x-amz-meta-format"]) == ("drums", "flac")
    # Tags that say that it is done would keep the sweep from it.
    assert tags(empty, key) == {}
    assert empty.s3.get_object("queue", key).data == SONG
    # What a track says that it was made with can be asked for again.
    model = Asked("mine", ("vocals",), ("mp3-v0", "wav"))
    shown = empty.get(f"/v1/tracks/{empty.put(1, upload=upload, options=model).songhash}").json()
    assert shown["options"] == {"model": "mine", "stems": ["vocals"], "format": ["mp3-v0", "wav"]}
    assert empty.send("POST", f"/v1/tracks/{track.songhash}/rerun", shown["options"]).status == 202
    metadata = empty.s3.stat_object("queue", key).metadata or {}
    assert (metadata["x-amz-meta-model"], metadata["x-amz-meta-format"]) == ("mine", "mp3-v0,wav")
    problem(empty.send("POST", f"/v1/tracks/{track.songhash}/rerun", {"format": ["wav", "wav-16"]}), 422, "one file")
    # Without options: all of the default model's, and nothing of what was asked for before.
    assert empty.send("POST", f"/v1/tracks/{track.songhash}/rerun", {}).status == 202
    assert "x-amz-meta-stems" not in (empty.s3.stat_object("queue", key).metadata or {})


def test_without_its_upload_a_track_cannot_be_separated_again(empty: Stack) -> None:
    upload = empty.upload("a.mp3")
    track = empty.put(1, upload=upload, vocals_mp3=SONG)
    path = f"/v1/tracks/{track.songhash}/rerun"
    problem(empty.send("POST", path, {"format": ["ogg"]}), 400, "ogg")
    problem(empty.send("POST", path, {"model": "a/b"}), 400, "model=a/b")
    empty.upload("a.mp3", b"another song")
    problem(empty.send("POST", path, {}), 404, "a.mp3")
    empty.s3.remove_object("queue", "a.mp3")
    problem(empty.send("POST", path, {}), 404, "a.mp3")
    problem(empty.send("POST", f"/v1/tracks/{'0' * 64}/rerun", {}), 404, "0" * 64)
