"""What stands in line, as the function shows it."""

import json
from functools import partial

import pytest

from stems import naming
from tests.tracks_stack import Stack, problem


def enter(stack: Stack, number: int, state: str, **values: object) -> str:
    """Enter a job as the relay does; return its id."""
    name = naming.job_id("queue", f"in/{number}.mp3", "e")
    values = {"bucket": "queue", "key": f"in/{number}.mp3", "etag": "e", "uploaded_ms": 1_700_000_000_000, **values}
    stack.redis.hset(naming.job_key(name), mapping={"state": state, **values})
    return name


def test_the_queue_shows_what_waits_runs_and_failed(empty: Stack) -> None:
    job = partial(enter, empty)
    waiting = {job(number, "waiting"): number for number in range(3)}
    empty.redis.zadd(naming.WAITING, waiting)
    running = job(10, "separating", progress="0.25", songhash="a" * 64)
    empty.redis.zadd(naming.RELAYS, {"relay": 1})
    empty.redis.sadd(naming.delivering_key("relay"), running)
    empty.redis.hset(naming.ATTEMPTS, running, 2)
    empty.redis.zadd(naming.DEAD, {job(20, "failed", error="no song", attempts=5): 1})
    record = {"s3": {"bucket": {"name": "queue"}, "object": {"key": "in/a+b%C3%A4.mp3", "eTag": "x"}}}
    record["eventTime"] = "2023-11-14T22:13:20.000Z"  # type: ignore[assignment]
    empty.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [record]}]))

    body = json.loads(empty.get("/v1/queue").data)
    assert {part: body[part]["count"] for part in body} == {"waiting": 4, "running": 1, "failed": 1}
    assert [one["name"] for one in body["waiting"]["jobs"]] == ["0.mp3", "1.mp3", "2.mp3", "a bä.mp3"]
    assert body["running"]["jobs"] == [
        {
            "id": running,
            "name": "10.mp3",
            "key": "in/10.mp3",
            "state": "separating",
            "progress": 0.25,
            "attempts": 2,
            "error": None,
            "songhash": "a" * 64,
            "uploaded": "2023-11-14T22:13:20.000Z",
            "position": None,
            "estimate_s": None,
            "url": None,
        }
    ]
    failed = body["failed"]["jobs"][0]
    assert (failed["state"], failed["error"], failed["attempts"]) == ("failed", "no song", 5)
    cut = json.loads(empty.get("/v1/queue?limit=1").data)["waiting"]
    assert (cut["count"], len(cut["jobs"])) == (4, 1)
    problem(empty.get("/v1/queue?limit=0"), 400, "limit=0")


@pytest.mark.parametrize("state", ["waiting", "running", "failed"])
def test_the_list_of_songs_that_are_not_done_has_pages(empty: Stack, state: str) -> None:
    # Two of one millisecond, so that the order within it matters, too.
    times = {number: 1_700_000_000_000 + 1000 * (number // 2) for number in range(5)}
    jobs = {enter(empty, number, state, uploaded_ms=time): time for number, time in times.items()}
    if state == "running":
        empty.redis.zadd(naming.RELAYS, {"relay": 1})
        empty.redis.sadd(naming.delivering_key("relay"), *jobs)
    else:
        empty.redis.zadd(naming.WAITING if state == "waiting" else naming.DEAD, jobs)
    empty.put(1, vocals_mp3=b"v")
    expected = sorted(jobs, key=lambda job: (jobs[job], job), reverse=True)
    seen, path = [], f"/v1/tracks?state={state}&limit=2"
    while path:
        answer = empty.get(path)
        body = json.loads(answer.data)
        seen += [one["id"] for one in body["tracks"]]
        assert answer.headers.get("Link") == (f'<{body["next"]}>; rel="next"' if body["next"] else None)
        path = body["next"]
    assert seen == expected
    shown = json.loads(empty.get(f"/v1/tracks?state={state}&since=2023-11-14T22:13:21Z").data)
    assert [one["id"] for one in shown["tracks"]] == expected[:3]
    assert shown["tracks"][0] == json.loads(empty.get(f"/v1/jobs/{expected[0]}").data)
    problem(empty.get(f"/v1/tracks?state={state}&q=a"), 400, "q=a", f"state={state}")
    problem(empty.get(f"/v1/tracks?state={state}&cursor=abc"), 400, "cursor=abc")


def test_the_list_of_songs_that_are_done_has_tracks(empty: Stack) -> None:
    track = empty.put(1, vocals_mp3=b"v")
    empty.redis.zadd(naming.DEAD, {enter(empty, 1, "failed"): 1})
    for path in ("/v1/tracks", "/v1/tracks?state=done"):
        (shown,) = json.loads(empty.get(path).data)["tracks"]
        assert (shown["songhash"], shown["state"]) == (track.songhash, "done")
    problem(empty.get("/v1/tracks?state=new"), 400, "state=new")


@pytest.mark.parametrize("sequencer", ["-" + "F" * 20, "F" * 20])
def test_what_is_announced_of_no_time_is_not_shown(empty: Stack, sequencer: str) -> None:
    known = {"key": "a.mp3", "eTag": "x", "sequencer": sequencer}
    empty.redis.rpush(
        naming.NOTIFICATIONS, json.dumps([{"Event": [{"s3": {"bucket": {"name": "queue"}, "object": known}}]}])
    )
    assert json.loads(empty.get("/v1/queue").data)["waiting"] == {"count": 0, "jobs": []}
