"""What the relay delivers, and how."""

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

from minio.commonconfig import CopySource
from minio.datatypes import PostPolicy

from stems import naming
from tests.relay_stack import RECORD, Sink, Stack
from tests.servers import until


def test_each_of_the_four_kinds_is_delivered_and_other_events_are_not(stack: Stack, sink: Sink) -> None:
    stack.relay()
    etags = {"put.mp3": stack.put("put.mp3")}
    copied = stack.root.copy_object("queue", "copy.mp3", CopySource("queue", "put.mp3"))
    etags["copy.mp3"] = copied.etag or ""
    parts = stack.root.put_object("queue", "parts.mp3", BytesIO(bytes(6 << 20)), -1, part_size=5 << 20)
    etags["parts.mp3"] = parts.etag or ""
    policy = PostPolicy("queue", datetime.now(UTC) + timedelta(hours=1))
    policy.add_equals_condition("key", "form.mp3")
    form: dict[str, Any] = {
        **stack.s3.presigned_post_policy(policy),
        "key": "form.mp3",
        "file": ("form.mp3", b"form.mp3"),
    }
    posted = stack.http.request("POST", f"{stack.environ['STEMS_S3_ENDPOINT']}/queue", fields=form)
    assert posted.status == 204, posted.data
    etags["form.mp3"] = posted.headers["etag"].strip('"')
    until(lambda: len(sink.deliveries) == 4 and stack.idle())

    for kind in ("PutTagging", "PutRetention", "PutLegalHold"):
        s3 = {"bucket": {"name": "queue"}, "object": {"key": "tagged.mp3", "eTag": "of-tagged"}}
        payload = json.dumps([{"Event": [RECORD | {"eventName": f"s3:ObjectCreated:{kind}", "s3": s3}]}])
        stack.redis.rpush(naming.NOTIFICATIONS, payload)
    stack.put("last.mp3")
    until(lambda: sink.of("last.mp3") and stack.idle())
    assert {d.upload.key: d.upload.etag for d in sink.deliveries[:4]} == etags
    assert len(sink.deliveries) == 5
    types = {d.upload.key: {k.lower(): v for k, v in d.headers.items()}["ce-type"] for d in sink.deliveries[:4]}
    kinds = {"put.mp3": "Put", "copy.mp3": "Copy", "parts.mp3": "CompleteMultipartUpload", "form.mp3": "Post"}
    assert types == {key: f"com.amazonaws.s3.ObjectCreated:{kind}" for key, kind in kinds.items()}
    assert stack.jobs.view().failed == 0


def test_both_targets_announce_and_the_song_is_delivered_once(stack: Stack, sink: Sink) -> None:
    stack.configure("FAST,DURABLE")
    try:
        for key in ("a.mp3", "b.mp3"):
            stack.put(key)
        until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 4)
    finally:
        stack.configure("FAST")
    stack.relay()
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    # The same once more, when the songs are done.
    for delivery in tuple(sink.deliveries):
        stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [json.loads(delivery.body)]}]))
    stack.put("c.mp3")
    until(lambda: sink.of("c.mp3") and stack.idle())
    assert sorted(sink.keys()) == ["a.mp3", "b.mp3", "c.mp3"]


def test_headers_and_body_are_those_of_the_contract(stack: Stack, sink: Sink) -> None:
    key = "Пісня + 100 % ä/ö&=?#.mp3"
    etag = stack.put(key, stems="vocals")
    until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 1)
    (record,) = json.loads(stack.redis.lindex(naming.NOTIFICATIONS, 0))[0]["Event"]
    stack.relay()
    until(lambda: sink.deliveries)
    (delivery,) = sink.deliveries
    assert json.loads(delivery.body) == record, "the S3 record, unchanged"
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    ours = {name: value for name, value in headers.items() if name.startswith("ce-")}
    assert ours.pop("ce-traceparent") == headers["traceparent"]
    answer, subject = record["responseElements"], ours.pop("ce-subject")
    assert datetime.fromisoformat(ours.pop("ce-time")).timestamp() * 1000 == delivery.upload.uploaded_ms
    assert ours == {
        "ce-specversion": "1.0",
        "ce-id": f"{answer['x-amz-request-id']}.{answer['x-amz-id-2']}",
        "ce-source": f"minio:s3.{record['awsRegion']}.queue",
        "ce-type": "com.amazonaws.s3.ObjectCreated:Put",
    }
    assert headers["content-type"] == "application/json"
    assert subject.isascii()
    assert (delivery.upload.key, delivery.upload.etag) == (key, etag)


def test_no_more_than_allowed_are_in_flight(stack: Stack, sink: Sink) -> None:
    keys = [f"{number}.mp3" for number in range(9)]
    sink.hold(*keys)
    stack.announce(*keys)
    stack.relay(STEMS_MAX_IN_FLIGHT="3")
    until(lambda: len(sink.deliveries) == 3)
    until(lambda: stack.redis.zcard(naming.WAITING) == 6)
    assert sorted(sink.keys()) == keys[:3], "the oldest first"
    for done, key in enumerate(keys, start=1):
        sink.release(key)
        until(lambda done=done: len(sink.deliveries) == min(9, done + 3))  # type: ignore[misc]
    until(stack.idle)
    assert max(delivery.together for delivery in sink.deliveries) == 3
    assert sorted(sink.keys()) == keys
