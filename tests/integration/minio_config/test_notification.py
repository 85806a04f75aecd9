"""Which uploads are announced, and to which targets."""

import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.datatypes import PostPolicy
from minio.notificationconfig import NotificationConfig, QueueConfig

from stems.contract import EVENT_NAMES
from tests.minio_server import Server, tags


def post(client: Minio, endpoint: str, key: str) -> None:
    """Upload with the form of a presigned POST."""
    policy = PostPolicy("queue", datetime.now(UTC) + timedelta(minutes=5))
    policy.add_equals_condition("key", key)
    fields: dict[str, Any] = {**client.presigned_post_policy(policy), "key": key, "file": (key, b"song")}
    assert urllib3.request("POST", f"http://{endpoint}/queue", fields=fields).status == 204


def test_each_kind_of_upload_arrives_once_per_target(server: Server) -> None:
    client, state = server.login("uploader"), server.redis
    client.put_object("queue", "put", io.BytesIO(b"song"), 4)
    client.set_object_tags("queue", "put", tags())
    post(client, server.endpoint, "post")
    client.copy_object("queue", "copy", CopySource("queue", "put"))
    client.put_object("queue", "parts", io.BytesIO(bytes(5 << 20 | 1)), 5 << 20 | 1, part_size=5 << 20)
    client.remove_object("queue", "put")
    # Uploads of the tests before are in the lists as well; this one is the last.
    client.put_object("queue", "last", io.BytesIO(b"song"), 4)
    for target in ("FAST", "DURABLE"):
        arrived: Counter[tuple[str, str]] = Counter()
        while ("last", "s3:ObjectCreated:Put") not in arrived:
            popped: Any = state.blpop([target], timeout=15)
            assert popped, f"{target}: only {arrived}"
            (entry,) = json.loads(popped[1])
            (record,) = entry["Event"]
            arrived[record["s3"]["object"]["key"], record["eventName"]] += 1
        assert {kind for _, kind in arrived} == set(EVENT_NAMES)
        for key, kind in zip(("put", "post", "copy", "parts"), EVENT_NAMES, strict=True):
            assert arrived[key, kind] == 1
        assert state.llen(target) == 0
    assert state.llen("OTHER") == 0


def queues(server: Server) -> dict[str, list[str]]:
    """Return the events of each notification of the bucket queue, by ARN."""
    found = server.login("root").get_bucket_notification("queue").queue_config_list
    assert len({queue.queue for queue in found}) == len(found)
    return {queue.queue or "": sorted(queue.events) for queue in found}


def test_notifications_of_others_stay(server: Server) -> None:
    fast, durable, other = (f"arn:minio:sqs::{target}:redis" for target in ("FAST", "DURABLE", "OTHER"))
    ours = {arn: sorted(EVENT_NAMES) for arn in (fast, durable)}
    assert queues(server) == ours
    by_hand = [QueueConfig(queue=arn, events=["s3:ObjectCreated:*"]) for arn in (other, fast)]
    server.login("root").set_bucket_notification("queue", NotificationConfig(queue_config_list=by_hand))
    assert server.apply() == {"notification of FAST, DURABLE": "updated"}
    assert queues(server) == ours | {other: ["s3:ObjectCreated:*"]}
    assert server.apply(STEMS_NOTIFY_TARGETS=" DURABLE ") == {"notification of DURABLE": "updated"}
    assert queues(server) == {durable: ours[durable], other: ["s3:ObjectCreated:*"]}
    server.login("root").set_bucket_notification("queue", NotificationConfig())
    assert server.apply() == {"notification of FAST, DURABLE": "created"}


def test_an_unknown_target_is_named(server: Server) -> None:
    line = server.refused(STEMS_NOTIFY_TARGETS="FAST,NOPE")
    assert line.startswith("error: notification of FAST, NOPE: ")
    assert "no Redis target NOPE" in line
    assert "MINIO_NOTIFY_REDIS_{ENABLE,ADDRESS,KEY,FORMAT}_NOPE" in line
    assert set(queues(server)) == {"arn:minio:sqs::FAST:redis", "arn:minio:sqs::DURABLE:redis"}
