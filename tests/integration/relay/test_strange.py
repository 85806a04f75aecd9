"""What is strange: payloads that cannot be read, songs put again meanwhile, dead letters that return."""

import json
from typing import Any

from stems import contract, naming
from tests.relay_stack import RECORD, Reply, Sink, Stack
from tests.servers import until


def test_a_payload_that_cannot_be_read_is_kept_and_the_songs_behind_it_flow(stack: Stack, sink: Sink) -> None:
    def record(**s3: Any) -> Any:
        return [{"Event": [RECORD | {"s3": RECORD["s3"] | s3}]}]

    strange: list[Any] = [b"", b"{", b"\xff\xfe", b"[" * 50_000, b"9" * 5000, b"[" + b" " * 1_000_000 + b"]"]
    strange += [None, 5, "text", [], {}, [None], [5], ["Event"], {"Event": 5}, {"Records": {"a": 1}}]
    strange += [{"Records": [None]}, [{"Event": []}], record(bucket=None), record(bucket=5), record(bucket=[])]
    objects: list[Any] = [None, 5, [], {"key": 5, "eTag": "e"}, {"key": "a", "eTag": 5}]
    strange += [record(object=each) for each in objects]
    strange += [record(object={"key": "\ud800", "eTag": "e"}), record(object={"key": "", "eTag": "e"})]
    times: list[Any] = ["no hex", 5, [1], "F" * 5000, "-1", "-" + "F" * 20]
    strange += [record(object={"key": "a", "eTag": "e", "sequencer": sequencer}) for sequencer in times]
    good = RECORD | {"s3": {"bucket": {"name": "queue"}, "object": {"key": "good.mp3", "eTag": "e"}}}
    strange.append([{"Event": [RECORD | {"s3": None}, good]}])
    for payload in strange:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        stack.redis.rpush(naming.NOTIFICATIONS, raw)
    no_event = RECORD | {"awsRegion": 5, "s3": RECORD["s3"] | {"object": {"key": "x", "eTag": "e"}}}
    stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [no_event]}]))
    stack.redis.rpush(naming.NOTIFICATIONS, json.dumps(RECORD | {"Records": [good | {"eventName": 5}]}))
    stack.put("song.mp3")
    stack.relay()
    until(lambda: sink.of("song.mp3") and stack.redis.llen(naming.NOTIFICATIONS) == 0 and stack.idle())
    assert sorted(sink.keys()) == ["good.mp3", "song.mp3"]
    dead = stack.jobs.view().failed_jobs
    assert len(dead) == len(strange) + 1
    for job in dead:
        letter, data = stack.jobs.dead_letter(job.id)
        assert letter.error
        assert "payload" in data or letter.key == "x"
    assert {data["payload"] for data in (stack.jobs.dead_letter(job.id)[1] for job in dead) if "payload" in data} >= {
        "{",
        "",
        "\\xff\\xfe",
        "null",
    }


def test_an_upload_repeated_while_it_is_delivered_is_delivered_once_more(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3", b"song")
    stack.relay()
    until(lambda: sink.deliveries)
    assert stack.put("a.mp3", b"song", stems="vocals") == etag
    until(lambda: stack.job("a.mp3", etag).get("again") == "1")
    sink.release()
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert "userMetadata" in json.loads(sink.deliveries[1].body)["s3"]["object"]
    assert sink.deliveries[1].body != sink.deliveries[0].body, "with the options of the second"
    stack.put("b.mp3")
    until(lambda: sink.of("b.mp3") and stack.idle())
    assert len(sink.of("a.mp3")) == 2
    assert stack.job("a.mp3", etag)["state"] == "done"


def test_an_upload_overwritten_while_it_is_delivered_is_another_song(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    gone = Reply(200, "{}", {"ce-type": contract.TYPE_GONE, "ce-id": "1", "ce-source": "s", "ce-specversion": "1.0"})
    sink.script["a.mp3"] = [gone, Reply(200)]
    first = stack.put("a.mp3", b"one")
    stack.relay()
    until(lambda: sink.deliveries)
    second = stack.put("a.mp3", b"two")
    until(lambda: len(sink.deliveries) == 2)
    sink.release()
    until(stack.idle)
    assert [delivery.upload.etag for delivery in sink.deliveries] == [first, second]
    assert (stack.job("a.mp3", first)["state"], stack.job("a.mp3", second)["state"]) == ("gone", "done")


def test_a_dead_letter_that_is_retried_is_delivered_again(stack: Stack, sink: Sink) -> None:
    sink.script["a.mp3"] = [Reply(500), Reply(500), Reply(500), Reply(200)]
    etag = stack.put("a.mp3")
    stack.redis.rpush(naming.NOTIFICATIONS, "{")
    stack.relay(STEMS_MAX_ATTEMPTS="2")
    until(lambda: stack.jobs.view().failed == 2)
    for job in stack.jobs.view().failed_jobs:
        assert stack.jobs.retry(job.id)
    until(lambda: len(sink.deliveries) == 4 and stack.idle())
    until(lambda: stack.jobs.view().failed == 1)  # what could not be read is as it was
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.job("a.mp3", etag)["attempts"] == "2", "it began to count anew"


def test_a_song_tried_thousands_of_times_can_still_end(stack: Stack, sink: Sink) -> None:
    etag = stack.put("a.mp3")
    job = naming.job_id("queue", "a.mp3", etag)
    sink.close()
    stack.relay()
    until(lambda: stack.redis.hget(naming.job_key(job), "tries"))
    stack.redis.hset(naming.job_key(job), "tries", 5000)  # hours of an absent sink
    until(lambda: int(stack.redis.hget(naming.job_key(job), "tries")) > 5000)
    sink.open()
    until(lambda: stack.job("a.mp3", etag).get("state") == "done" and stack.idle())
