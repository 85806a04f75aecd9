"""The line itself, command by command, in a real Redis."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
import redis

from stems import jobs, naming
from stems.contract import Upload
from stems_relay import inbox as inbox_module
from stems_relay.inbox import Inbox, Taken
from tests.relay_stack import RECORD, Stack


def in_line(stack: Stack, act: Callable[[Inbox, Inbox], Awaitable[None]]) -> None:
    """Act as two relays at once."""

    async def run() -> None:
        relays = [Inbox(stack.environ["STEMS_REDIS_URL"], name) for name in ("one", "two")]
        try:
            await act(*relays)
        finally:
            for relay in relays:
                await relay.close()

    asyncio.run(run())


def upload(key: str = "a.mp3", uploaded_ms: int = 1_790_000_000_000) -> Upload:
    return Upload.from_listing("queue", key, "e", 1, datetime.fromtimestamp(uploaded_ms / 1000, UTC))


async def taken(relay: Inbox) -> Taken:
    found = await relay.take()
    assert isinstance(found, list)
    (job,) = found
    return job


def test_every_command_may_be_sent_twice(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        assert [await one.claim(upload()) for _ in range(2)] == ["new", "duplicate"]
        job = await taken(one)
        assert [await one.claim(upload(uploaded_ms=1_790_000_000_001)) for _ in range(2)] == ["again", "duplicate"]
        assert [await one.settle(job, "done") for _ in range(2)] == ["waiting", "waiting"]
        job = await taken(one)
        assert [await one.settle(job, "failed", error="no") for _ in range(2)] == ["failed", "failed"]
        assert await one.claim(upload()) == "failed"
        assert await one.ended(job.message.job) == ("", "no")
        stack.redis.rpush(naming.NOTIFICATIONS, "{", "{")
        assert (await one.read()).unreadable == 2
        await two.sign_off()
        await two.sign_off()

    in_line(stack, act)
    assert stack.redis.zcard(naming.DEAD) == 2


def test_an_answer_is_entered_for_its_own_delivery_only(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        old = await taken(one)
        assert await two.heartbeat(-1) == 1  # everybody is silent
        assert await one.settle(old, "failed") == "stale"
        new = await taken(one)
        assert await one.settle(old, "failed") == "stale", "though the same relay has it again"
        assert await one.settle(new, "done") == "done"
        stack.redis.flushall()
        assert await one.settle(new, "waiting") == "stale"
        assert stack.redis.keys() == [], "and no fragment of a job comes into being"

    in_line(stack, act)


def test_a_relay_holds_nothing_unknown_to_the_others(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await two.claim(upload())
        assert await taken(one)  # has sent no heartbeat yet
        assert stack.redis.zrange(naming.RELAYS, 0, -1) == ["one"]
        stack.redis.delete(naming.RELAYS)
        assert await two.claim(upload()) == "new", "held by a relay that nobody knows is held by nobody"
        assert await taken(two)
        stack.redis.flushall()
        stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [RECORD]}]))
        await one._fetch(keys=[naming.NOTIFICATIONS, one._processing, naming.RELAYS], args=["one", 100])
        assert await two.heartbeat(-1) == 1
        assert (await two.read()).new == 1

    in_line(stack, act)


def test_again_ends_with_the_next_delivery(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await taken(one)
        assert await one.claim(upload(uploaded_ms=1_790_000_000_001)) == "again"
        assert await two.heartbeat(-1) == 1
        assert await two.settle(await taken(two), "done") == "done", "this delivery came after the upload"

    in_line(stack, act)


def test_attempts_given_back_never_fall_below_none(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        stack.redis.delete(naming.ATTEMPTS)
        await one.settle(job, "waiting", refund=True)
        job = await taken(one)
        assert (job.attempts, job.tries) == (1, 2)
        await one.put_back(job.message.job)
        await taken(one)
        await one.sign_off()
        assert stack.redis.hgetall(naming.ATTEMPTS) == {}

    in_line(stack, act)


def test_the_line_is_ordered_by_the_time_of_the_uploads(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        future_ms = jobs.now_ms() + 60_000
        for key, uploaded_ms in {"c": future_ms, "b": 1_790_000_000_001, "a": 1_790_000_000_000}.items():
            await one.claim(upload(key, uploaded_ms))
        assert [(await taken(one)).message.key for _ in range(3)] == ["a", "b", "c"], "MinIO's clock may be ahead"

    in_line(stack, act)


def test_the_clock_may_be_set_back(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        day_ms = 24 * 3600 * 1000
        await one.claim(upload())
        stack.redis.zincrby(naming.WAITING, day_ms, upload().job)
        await taken(one)
        stack.redis.zadd(naming.RELAYS, {"one": jobs.now_ms() + day_ms})
        assert await two.heartbeat(0.05) == 0, "it may live"
        deadline = time.monotonic() + 5
        while await two.heartbeat(0.05) == 0:  # but is asked to say so
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert await taken(two)

    in_line(stack, act)


def test_a_relay_takes_as_many_as_it_asks_for_in_their_order(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        for number in (3, 1, 4, 2, 5):
            await one.claim(upload(f"{number}.mp3", 1_790_000_000_000 + number))
        found = [await relay.take(count=3) for relay in (one, two, one)]
        keys = [[job.message.key for job in each] if isinstance(each, list) else each for each in found]
        assert keys == [["1.mp3", "2.mp3", "3.mp3"], ["4.mp3", "5.mp3"], None]
        jobs = [job for each in found if isinstance(each, list) for job in each]
        assert len({job.delivery for job in jobs}) == 5
        assert {(job.attempts, job.tries) for job in jobs} == {(1, 1)}
        stack.redis.script_flush()  # as a restart does
        answers = await asyncio.gather(*(one.settle(job, "done") for job in jobs))
        assert answers == ["done", "done", "done", "waiting", "waiting"], "those of the other relay are not its to end"

    in_line(stack, act)


def test_nobody_asks_to_wait_for_ever(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await one.settle(await taken(one), "waiting", delay_s=float("inf"))
        due_s = await one.take()
        assert isinstance(due_s, float)
        assert 3590 < due_s <= inbox_module.DELAY_LIMIT_S

    in_line(stack, act)


def test_keys_that_hold_something_else_or_nothing_stop_nobody(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload("damaged"))
        stack.redis.hset(naming.job_key(upload("damaged").job), "record", "{")
        stack.redis.set(naming.job_key(upload("text").job), "text")
        assert await one.claim(upload("text")) == "new"
        stack.redis.hset(naming.job_key(upload("odd").job), mapping={"uploaded_ms": "odd", "tries": "odd"})
        assert await one.claim(upload("odd")) == "new"
        for key in ("lost", "list"):
            await one.claim(upload(key))
            stack.redis.delete(naming.job_key(upload(key).job))
        stack.redis.rpush(naming.job_key(upload("list").job), "no hash")
        found = await one.take(count=10)
        assert isinstance(found, list)
        assert {each.message.key for each in found} == {"text", "odd"}
        assert await one.take(count=10) is None
        (dead,) = stack.jobs.view().failed_jobs
        assert dead.key == "damaged"
        for job in stack.redis.smembers("stems:delivering:one"):
            stack.redis.delete(naming.job_key(job))
        assert await two.heartbeat(-1) == 0
        assert stack.redis.zcard(naming.WAITING) == 0
        assert sorted(stack.redis.keys("stems:job:*")) == sorted(
            naming.job_key(job) for job in (upload("list").job, dead.id)
        ), "no fragment of a job comes into being"

    in_line(stack, act)


def test_the_line_drains_while_redis_is_full(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload("a"))
        stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [RECORD]}]), "{")
        stack.redis.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            stack.redis.set("any", "thing")
        read = await one.read()
        assert (read.new, read.unreadable) == (1, 1)
        for state in ("waiting", "failed", "done"):
            assert await one.settle(await taken(one), state) == state
        await taken(one) if stack.redis.zcard(naming.WAITING) else None
        await one.heartbeat(60)
        await two.heartbeat(-1)

    try:
        in_line(stack, act)
    finally:
        stack.redis.config_set("maxmemory", 0)
