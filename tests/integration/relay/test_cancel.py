"""What was cancelled is never separated: not by the line, a second notification, the sweep, or a relay's death."""

import signal
import time
from collections.abc import Mapping

import pytest

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.storage import Storage
from stems_relay.inbox import Inbox
from tests.integration.relay.test_line import in_line, taken, upload
from tests.relay_stack import SWEEPER, Reply, Sink, Stack, ended
from tests.servers import until

LATER = upload(uploaded_ms=1_790_000_000_001)


def state(stack: Stack) -> str | None:
    found: str | None = stack.redis.hget(naming.job_key(upload().job), "state")
    return found


def test_one_that_waits_stays_away_until_it_is_uploaded_again(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        assert [stack.jobs.cancel(upload().job) for _ in range(2)] == ["cancelled", "cancelled"]
        assert await one.take() is None
        assert [await one.claim(upload()) for _ in range(2)] == ["cancelled", "cancelled"]
        assert await one.take() is None
        assert await one.claim(LATER) == "new"
        assert (await taken(one)).attempts == 1

    in_line(stack, act)


@pytest.mark.parametrize("answer", ["waiting", "failed", "gone"])
def test_one_that_runs_ends_whatever_its_worker_answers(stack: Stack, answer: str) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        assert stack.jobs.cancel(upload().job) == "cancelled"
        assert stack.jobs.fields(upload().job, "cancel") == ["1"]
        assert stack.jobs.update(upload().job, state="separating") is True
        assert await one.claim(upload()) == "duplicate"
        assert [await one.settle(job, answer, error="x", refund=True) for _ in range(2)] == ["cancelled", "cancelled"]
        assert (await one.take(), state(stack)) == (None, "cancelled")
        assert await one.claim(upload()) == "cancelled"

    in_line(stack, act)
    assert stack.redis.zcard(naming.DEAD) == stack.redis.hlen(naming.ATTEMPTS) == 0


def test_one_that_was_done_meanwhile_is_done(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        stack.jobs.cancel(upload().job)
        assert await one.settle(job, "done") == "done"
        assert stack.jobs.cancel(upload().job) == "done"

    in_line(stack, act)


def test_an_upload_after_the_cancellation_is_not_lost(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        stack.jobs.cancel(upload().job)
        assert await one.claim(LATER) == "again"
        assert await one.settle(job, "gone") == "waiting"
        assert stack.jobs.fields(upload().job, "cancel") == [None]
        assert await one.settle(await taken(one), "done") == "done"

    in_line(stack, act)


def test_an_upload_before_the_cancellation_is_cancelled_with_it(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        assert await one.claim(LATER) == "again"
        stack.jobs.cancel(upload().job)
        assert await one.settle(job, "gone") == "cancelled"
        assert await one.claim(LATER) == "cancelled"

    in_line(stack, act)


@pytest.mark.parametrize("alive", [True, False])
def test_what_a_relay_leaves_behind_does_not_come_back(stack: Stack, alive: bool) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await one.claim(upload("other.mp3"))
        for _ in range(2):
            await taken(one)
        stack.jobs.cancel(upload().job)
        if alive:
            await one.sign_off()
        else:
            stack.redis.zadd(naming.RELAYS, {"one": int(time.time() * 1000) - 60_000})
            assert await two.heartbeat(30) == 1
        assert (await taken(two)).message.key == "other.mp3"
        assert (await two.take(), state(stack)) == (None, "cancelled")
        assert stack.redis.ttl(naming.job_key(upload().job)) > 0

    in_line(stack, act)


def test_one_that_is_expected_and_cancelled_is_not_entered(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        stack.jobs.expect(upload())
        assert state(stack) == "waiting"
        assert stack.jobs.cancel(upload().job) == ""
        assert stack.jobs.cancel(upload().job, upload()) == "cancelled"
        assert await one.claim(upload()) == "cancelled"
        # What is expected and not cancelled is entered, once.
        stack.jobs.expect(LATER)
        assert [await one.claim(LATER) for _ in range(2)] == ["new", "duplicate"]
        stack.jobs.expect(LATER)
        assert (await taken(one)).message.job == LATER.job
        stack.jobs.expect(LATER)
        assert await one.take() is None

    in_line(stack, act)
    assert stack.jobs.cancel("0" * 32) is None


def test_the_sweep_says_on_the_upload_what_could_not_be_said(stack: Stack, sink: Sink) -> None:
    """Cancelled in Redis, and then MinIO was away: the upload tells nothing, or of its separation."""
    etags = {key: stack.put(key) for key in ("a.mp3", "b.mp3", "c.mp3")}
    until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 3)
    sink.hold("a.mp3")
    sink.script["a.mp3"] = [Reply(500)]
    relay = stack.relay(STEMS_MAX_IN_FLIGHT="1")
    until(lambda: sink.deliveries and stack.jobs.view().waiting == 2)
    storage = Storage(Settings.from_env(stack.environ))
    for key in ("a.mp3", "b.mp3"):
        assert stack.jobs.cancel(naming.job_id("queue", key, etags[key])) == "cancelled"
        storage.tag(upload_of(key, etags), "separating")
    sink.release()
    until(lambda: stack.job("c.mp3", etags["c.mp3"]).get("state") == "done")
    ended(relay, signal.SIGTERM)
    relay = stack.relay(SWEEPER)
    for key in ("a.mp3", "b.mp3"):
        until(lambda key=key: stack.tags(key).get("state") == "cancelled")  # type: ignore[misc]
    ended(relay, signal.SIGTERM)
    # From now on Redis may lose everything; an upload that tells nothing shows when the sweep was there.
    stack.redis.flushall()
    stack.root.delete_object_tags("queue", "c.mp3")
    stack.relay(SWEEPER, STEMS_SWEEP_S="1")
    until(lambda: len(sink.of("c.mp3")) == 2)
    time.sleep(1.5)  # another sweep
    assert (len(sink.of("a.mp3")), len(sink.of("b.mp3"))) == (1, 0)


def upload_of(key: str, etags: Mapping[str, str]) -> Upload:
    return Upload("queue", key, etags[key], 0, {})
