"""What the sweep of the bucket makes good."""

import signal
from datetime import UTC, datetime

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.storage import Storage
from tests.relay_stack import SWEEPER, Reply, Sink, Stack, ended
from tests.servers import until


def test_redis_loses_everything_in_mid_delivery_and_the_sweep_finds_the_songs(stack: Stack, sink: Sink) -> None:
    keys = ["a.mp3", "b.mp3", "c.mp3"]
    sink.hold("a.mp3")
    sink.script["a.mp3"] = [Reply(500), Reply(200)]
    etags = {key: stack.put(key) for key in keys}
    stack.relay(SWEEPER, STEMS_MAX_IN_FLIGHT="1", STEMS_SWEEP_S="1")
    until(lambda: sink.deliveries)
    stack.redis.flushall()
    sink.release()
    until(lambda: {"b.mp3", "c.mp3"} <= set(sink.keys()) and len(sink.of("a.mp3")) >= 2)
    until(lambda: all(stack.job(key, etag).get("state") == "done" for key, etag in etags.items()) and stack.idle())
    assert stack.jobs.view().failed == 0


def test_a_lost_notification_is_made_good_by_the_sweep_at_the_start(stack: Stack, sink: Sink) -> None:
    etag = stack.put("a.mp3")
    stack.put("b.mp3")
    tags = {"state": "done", "etag": stack.put("done.mp3")}
    until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 3)
    stack.redis.delete(naming.NOTIFICATIONS)
    stack.redis.set(naming.SWEEP_LOCK, "of a relay that swept just now and died", ex=600)
    upload = Upload.from_listing("queue", "done.mp3", tags["etag"], 8, datetime.now(UTC))
    Storage(Settings.from_env(stack.environ)).tag(upload, "done")
    stack.relay(SWEEPER, STEMS_MAX_IN_FLIGHT="1")
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert sink.keys() == ["a.mp3", "b.mp3"], "in the order of their uploads, and not what is done"


def test_the_sweep_tags_a_dead_letter_that_could_not_be_tagged(stack: Stack, sink: Sink) -> None:
    etag = stack.put("a.mp3")
    sink.script["a.mp3"] = [Reply(400, "no")]
    relay = stack.relay()
    until(lambda: stack.tags("a.mp3").get("state") == "failed")
    ended(relay, signal.SIGTERM)
    stack.root.delete_object_tags("queue", "a.mp3")
    stack.relay(SWEEPER)
    until(lambda: stack.tags("a.mp3").get("state") == "failed")
    assert stack.tags("a.mp3") == {"state": "failed", "etag": etag, "error": "400: no"}
    assert len(sink.deliveries) == 1
