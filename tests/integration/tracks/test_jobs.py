"""Single jobs: where they stand, when they will be done, cancel and retry."""

from typing import Any

from stems import naming
from stems.contract import Upload
from tests.tracks_stack import SONG, Stack, problem


def enter(stack: Stack, upload: Upload, state: str, **fields: object) -> str:
    """Enter an upload as the relay does."""
    known = {"bucket": upload.bucket, "key": upload.key, "etag": upload.etag, "uploaded_ms": upload.uploaded_ms}
    stack.redis.hset(naming.job_key(upload.job), mapping={"state": state, "record": "{}", **known, **fields})
    if state == "waiting":
        stack.redis.zadd(naming.WAITING, {upload.job: upload.uploaded_ms})
    elif state == "failed":
        stack.redis.zadd(naming.DEAD, {upload.job: 1})
    else:
        stack.redis.zadd(naming.RELAYS, {"relay": 1})
        stack.redis.sadd(naming.delivering_key("relay"), upload.job)
        stack.redis.hset(naming.job_key(upload.job), "relay", "relay")
    return f"/v1/jobs/{upload.job}"


def tags(stack: Stack, key: str) -> dict[str, str]:
    return dict(stack.s3.get_object_tags("queue", key) or {})


def show(stack: Stack, path: str) -> Any:
    answer = stack.get(path)
    assert answer.status == 200, answer.data
    return answer.json()


def test_a_job_tells_its_place_and_when_it_will_be_done(empty: Stack) -> None:
    now = empty.redis.time()[0] * 1000
    first, second = (enter(empty, empty.upload(f"{n}.mp3"), "waiting") for n in (1, 2))
    assert (show(empty, first)["position"], show(empty, second)["position"]) == (1, 2)
    assert show(empty, second)["estimate_s"] is None  # nothing is known yet
    running = enter(empty, empty.upload("3.mp3"), "separating", progress=0.25, started_ms=now - 10_000)
    # Its own pace: a quarter took 10 s. Others are expected to take as long, one after the other.
    assert 29 < show(empty, running)["estimate_s"] < 36
    assert 105 < show(empty, second)["estimate_s"] < 130
    empty.redis.set(naming.PACE, "5")
    assert 38 < show(empty, second)["estimate_s"] < 46
    # Its worker knows better: it counts segments.
    said = {"left_s": "60", "updated_ms": empty.redis.time()[0] * 1000}
    empty.redis.hset(naming.job_key(running.rpartition("/")[2]), mapping=said)
    assert 50 < show(empty, running)["estimate_s"] <= 60
    done = empty.upload("4.mp3")
    known = {"state": "done", "key": "4.mp3", "songhash": "a" * 64}
    empty.redis.hset(naming.job_key(done.job), mapping=known)
    found = show(empty, f"/v1/jobs/{done.job}")
    assert (found["url"], found["estimate_s"], found["position"]) == (f"/v1/tracks/{'a' * 64}", None, None)


def test_one_that_waits_leaves_the_line(empty: Stack) -> None:
    path = enter(empty, empty.upload("a b.mp3"), "waiting")
    for _ in range(2):
        answer = empty.send("DELETE", path)
        assert (answer.status, answer.json()["state"]) == (202, "cancelled")
    assert empty.redis.zcard(naming.WAITING) == 0
    assert tags(empty, "a b.mp3")["state"] == "cancelled"
    assert show(empty, path)["position"] is None


def test_one_that_runs_is_told_and_does_not_say_otherwise(empty: Stack) -> None:
    upload = empty.upload("a.mp3")
    path = enter(empty, upload, "separating", progress=0.5)
    assert empty.send("DELETE", path).json()["state"] == "cancelled"
    assert empty.jobs.update(upload.job, state="separating", progress=0.6) is True
    assert (show(empty, path)["state"], show(empty, path)["progress"]) == ("cancelled", 0.5)


def test_one_that_is_only_announced_can_be_cancelled(empty: Stack) -> None:
    job = empty.send("POST", "/v1/tracks?name=a.mp3", SONG).json()
    path = f"/v1/jobs/{job['id']}"
    assert empty.send("DELETE", path).json()["state"] == "cancelled"
    # The relay goes by this when the notification comes.
    known = empty.redis.hgetall(naming.job_key(job["id"]))
    assert (known["state"], int(known["uploaded_ms"]) > 0) == ("cancelled", True)
    assert tags(empty, job["key"])["state"] == "cancelled"


def test_what_failed_is_tried_again_or_forgotten(empty: Stack) -> None:
    first, second = empty.upload("1.mp3"), empty.upload("2.mp3")
    retried, dropped = (enter(empty, each, "failed", error="no song", attempts=5) for each in (first, second))
    answer = empty.send("POST", f"{retried}/retry")
    assert (answer.status, answer.json()["state"], answer.json()["position"]) == (202, "waiting", 1)
    problem(empty.send("POST", f"{retried}/retry"), 409, "waiting")
    answer = empty.send("DELETE", dropped)
    assert (answer.status, answer.json()["state"]) == (202, "dropped")
    assert tags(empty, "2.mp3")["state"] == "dropped"
    assert empty.redis.zcard(naming.DEAD) == 0


def test_what_has_ended_cannot_be_cancelled(empty: Stack) -> None:
    upload = empty.upload("1.mp3")
    empty.redis.hset(naming.job_key(upload.job), mapping={"state": "done", "key": "1.mp3"})
    problem(empty.send("DELETE", f"/v1/jobs/{upload.job}"), 409, upload.job, "done")
    assert tags(empty, "1.mp3") == {}
    for path, status in ((f"/v1/jobs/{'0' * 32}", 404), ("/v1/jobs/abc", 400)):
        problem(empty.get(path), status, path.rpartition("/")[2])
        problem(empty.send("DELETE", path), status)
        problem(empty.send("POST", f"{path}/retry"), status)
