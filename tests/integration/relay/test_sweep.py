"""What the sweep of the bucket makes good."""

import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO

import pytest

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.options import Options
from stems.storage import Storage
from stems_relay.listing import Listing
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


# What a worker says too late: of bytes that were overwritten, or of a start whose song another one has ended since.
LATE: Mapping[str, Mapping[str, str]] = {
    "of older bytes": {"state": "done", "etag": "0" * 32, "songhash": "0" * 64},
    "of the start": {"state": "separating", "songhash": "5" * 64},
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "dropped"])
def test_the_sweep_mends_a_tag_that_came_too_late(stack: Stack, sink: Sink, state: str, late: str) -> None:
    etag = stack.put("a.mp3")
    job = naming.job_id("queue", "a.mp3", etag)
    sink.script["a.mp3"] = [Reply(200 if state == "done" else 400, "no")]
    if state == "cancelled":
        until(lambda: stack.jobs.cancel(job, upload(stack, "a.mp3")))
    stack.relay()
    until(lambda: stack.job("a.mp3", etag).get("state") in {"done", "failed", "cancelled"} and stack.idle())
    if state in {"failed", "dropped"}:  # the relay's own word comes a moment later
        until(lambda: stack.tags("a.mp3"))
    if state == "dropped":
        assert stack.jobs.drop(job)
    stack.redis.hset(naming.job_key(job), "songhash", "5" * 64)
    stack.tag("a.mp3", **{"etag": etag, **LATE[late]})
    stack.relay(SWEEPER)
    error = {"error": "400: no"} if state in {"failed", "dropped"} else {}
    until(lambda: stack.tags("a.mp3") == {"state": state, "etag": etag, "songhash": "5" * 64, **error})
    assert len(sink.deliveries) == (state != "cancelled"), "it is not separated again"


def test_a_tag_about_older_bytes_is_not_written(stack: Stack) -> None:
    storage = Storage(Settings.from_env(stack.environ))
    stack.put("a.mp3", b"older")
    older = upload(stack, "a.mp3")
    etag = stack.put("a.mp3", b"newer")
    storage.tag(older, "done", songhash="0" * 64)
    assert stack.tags("a.mp3") == {}
    storage.tag(upload(stack, "a.mp3"), "done")
    assert stack.tags("a.mp3") == {"state": "done", "etag": etag}


# All that a header's name may hold (RFC 9110); few of it may stand in a name of XML.
TOKEN = "!#$%&'*+-.^_`|~0a"
STRANGE: Mapping[str, Mapping[str, str]] = {
    "a name that is none in XML": {f"x-amz-meta-a{TOKEN}": "b"},
    "a tag without a value": {"x-amz-tagging": "mood"},
    "a tag with two": {"x-amz-tagging": "mood=good=bad"},
}


def upload(stack: Stack, key: str) -> Upload:
    return next(each for each, _ in Listing(Settings.from_env(stack.environ)).uploads() if each.key == key)


def put(stack: Stack, key: str, metadata: Mapping[str, str]) -> str:
    return stack.s3.put_object("queue", key, BytesIO(b"song"), 4, metadata=dict(metadata)).etag or ""


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_stands_beside_an_upload_the_sweep_goes_on(stack: Stack, sink: Sink, name: str) -> None:
    put(stack, "a.mp3", {"x-amz-meta-stems": "vocals"})
    put(stack, "b.mp3", STRANGE[name])
    stack.tag("c.mp3", state="done", etag=put(stack, "c.mp3", {}))
    until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 3)
    stack.redis.delete(naming.NOTIFICATIONS)
    stack.relay(SWEEPER)
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert sorted(sink.keys()) == ["a.mp3", "b.mp3"], "c.mp3 says that it is done"
    (delivery,) = sink.of("a.mp3")
    assert Options.from_metadata(delivery.upload.metadata).stems == ("vocals",)


def test_a_listing_has_each_upload_once_with_all_that_stands_beside_it(stack: Stack) -> None:
    notes = {f"{number:04}.mp3": f"note {number}" for number in range(1001)} | {"0500.mp3/": "named as a folder"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(stack, key, {"x-amz-meta-note": notes[key]}), notes))
    stack.s3.put_object("queue", "an empty folder/", BytesIO(), 0)
    tags = {"0007.mp3": {"state": "failed", "error": "a: b = c/d @ +1"}, "1000.mp3": {"state": "done"}}
    for key, given in tags.items():
        stack.tag(key, **given)

    def check() -> None:
        listed = list(Listing(Settings.from_env(stack.environ)).uploads())
        assert [upload.key for upload, _ in listed] == sorted(notes)
        for upload, found in listed:
            metadata = {name.lower(): value for name, value in upload.metadata.items()}
            assert (metadata["x-amz-meta-note"], found) == (notes[upload.key], tags.get(upload.key, {}))

    check()
    put(stack, "0500.mp3/", {"x-amz-meta-note": notes["0500.mp3/"], f"x-amz-meta-{TOKEN}": "b"})
    check()
