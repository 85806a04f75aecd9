"""What stands in line, as the function shows it."""

import json

from stems import naming
from tests.tracks_stack import Stack, problem


def test_the_queue_shows_what_waits_runs_and_failed(empty: Stack) -> None:
    def job(number: int, state: str, **values: object) -> str:
        name = naming.job_id("queue", f"in/{number}.mp3", "e")
        values = {"bucket": "queue", "key": f"in/{number}.mp3", "etag": "e", "uploaded_ms": 1_700_000_000_000, **values}
        empty.redis.hset(naming.job_key(name), mapping={"state": state, **values})
        return name

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
