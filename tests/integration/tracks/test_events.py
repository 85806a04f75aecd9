"""Server-Sent Events: what happens is told, to everybody, once, and to those who come back."""

import contextlib
from pathlib import Path

from stems import naming
from tests.integration.tracks.test_jobs import enter
from tests.servers import until
from tests.sse import Listener
from tests.tracks_stack import SONG, Stack, problem


def test_jobs_and_tracks_are_told_as_they_change(empty: Stack) -> None:
    with contextlib.closing(Listener(empty.ports["tracks"]).begin()) as listener:
        assert (listener.status, listener.headers["Content-Type"]) == (200, "text/event-stream")
        job = empty.send("POST", "/v1/tracks?name=a.mp3", SONG).json()
        assert listener.until("job", id=job["id"]).data == job
        empty.send("DELETE", f"/v1/jobs/{job['id']}")
        assert listener.until("job", id=job["id"]).data["state"] == "cancelled"
        track = empty.put(1, vocals_mp3=SONG)
        empty.index.add(track)
        told = listener.until("track", songhash=track.songhash)
        assert told.data == empty.get(f"/v1/tracks/{track.songhash}").json()
        empty.send("DELETE", f"/v1/tracks/{track.songhash}")
        assert listener.until("removed").data == {"songhash": track.songhash}


def test_progress_is_told_in_steps_of_a_hundredth(empty: Stack) -> None:
    upload = empty.upload("a.mp3")
    enter(empty, upload, "separating")
    with contextlib.closing(Listener(empty.ports["tracks"]).begin()) as listener:
        before = empty.redis.xlen(naming.EVENTS)
        for progress in (0.1, 0.1001, 0.1002, 0.25):
            empty.jobs.update(upload.job, progress=progress)
        assert empty.redis.xlen(naming.EVENTS) - before == 2
        assert listener.until("job", progress=0.25).data["id"] == upload.job


def test_who_comes_back_is_told_what_he_missed(empty: Stack) -> None:
    first = Listener(empty.ports["tracks"]).begin()
    upload = empty.upload("a.mp3")
    enter(empty, upload, "separating")
    empty.jobs.update(upload.job, progress=0.1)
    first.until("job", progress=0.1)
    first.close()
    for progress in (0.2, 0.3, 0.4):
        empty.jobs.update(upload.job, progress=progress)
    track = empty.put(1)
    empty.index.add(track)
    with contextlib.closing(Listener(empty.ports["tracks"], first.last)) as again:
        events = iter(again)
        # Each thing once, as it is now.
        assert [(e.kind, e.data.get("progress")) for e in (next(events), next(events))] == [
            ("job", 0.4),
            ("track", None),
        ]
        empty.jobs.update(upload.job, progress=0.5)
        assert again.until("job").data["progress"] == 0.5


def test_who_was_away_for_too_long_is_told_to_look_anew(empty: Stack) -> None:
    empty.index.add(empty.put(1))
    with contextlib.closing(Listener(empty.ports["tracks"], "1-0")) as listener:
        assert next(iter(listener)).kind == "reset"
    problem(empty.get("/v1/events", {"Last-Event-ID": "yesterday"}), 400, "yesterday")


def test_all_are_told_the_same_and_those_who_go_leave_nothing(empty: Stack) -> None:
    files = empty.worker() / "fd"

    def opened() -> int:
        return len(list(Path(files).iterdir()))

    enter(empty, upload := empty.upload("a.mp3"), "separating")
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(Listener(empty.ports["tracks"]).begin()))
        before, connections = opened(), empty.redis.info("clients")["connected_clients"]
        listeners = [Listener(empty.ports["tracks"]).begin() for _ in range(200)]
        for listener in listeners:
            stack.callback(listener.close)
        # Far more than there are threads; each costs one open file, and none of them a connection to Redis.
        assert empty.get("/v1/queue").status == 200
        assert empty.redis.info("clients")["connected_clients"] < connections + 64
        empty.jobs.update(upload.job, progress=0.5)
        assert {listener.until("job").data["progress"] for listener in listeners} == {0.5}
        for listener in listeners:
            listener.close()
        until(lambda: opened() < before + 64)


def test_listeners_outlive_redis(empty: Stack) -> None:
    with contextlib.closing(Listener(empty.ports["tracks"]).begin()) as listener:
        empty.kill("redis")
        problem(empty.get("/v1/events"), 503, "Redis")
        empty.start("redis")
        assert listener.until("reset").data == {}
        track = empty.put(1)
        empty.index.add(track)
        assert listener.until("track").data["songhash"] == track.songhash
