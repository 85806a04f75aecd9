"""Who wants the parts of a divided song that lie in the bucket, and when nobody does: command by command, in Redis."""

from dataclasses import replace

import pytest

from stems import naming
from stems_relay.inbox import Inbox
from tests.integration.relay.test_line import in_line, taken, upload
from tests.integration.relay.test_parts import (
    MOST,
    NAMES,
    PLAN,
    SONG,
    SONGHASH,
    divided,
    division,
    part,
    song,
    unwanted,
    want,
)  # fmt: skip
from tests.relay_stack import Stack


def test_the_parts_of_a_dead_letter_that_is_dropped_are_for_a_worker_to_remove(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        assert await one.settle(await part(one), "failed", error="it is noise") == "failed"
        assert stack.jobs.drop(SONG)
        assert unwanted(stack) == {f"{SONGHASH} {PLAN}"}

    in_line(stack, act)


@pytest.mark.parametrize("how", ["in parts", "to be joined", "dead"])
def test_parts_that_another_upload_of_the_song_needs_stay(stack: Stack, how: str) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        other = upload("the same.mp3")
        for each in (upload(), other):
            await one.claim(each)
            job = await taken(one)
            await want(one, job)
            assert await one.divide(job, divided(NAMES[0]), MOST) == "divided"
        if how != "in parts":
            for each_part in [await part(one), await part(one)]:
                to = "failed" if how == "dead" and each_part.message.key == other.key else "done"
                assert await one.settle(each_part, to, error="noise") == to
        assert stack.jobs.cancel(SONG) == "cancelled"
        assert unwanted(stack) == set()
        assert stack.jobs.drop(other.job) if how == "dead" else stack.jobs.cancel(other.job)
        assert unwanted(stack) == {f"{SONGHASH} {PLAN}"}

    in_line(stack, act)


@pytest.mark.parametrize("dies", ["worker", "relay"])
def test_the_parts_of_a_song_that_is_cancelled_in_a_delivery_that_breaks_are_for_a_worker_to_remove(
    stack: Stack, dies: str
) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one, divided(NAMES[0]))
        await one.settle(await part(one), "done")
        job = await taken(one)
        assert stack.jobs.cancel(SONG) == "cancelled"
        assert unwanted(stack) == set()
        if dies == "worker":
            assert await one.settle(job, "waiting", error="broken connection") == "cancelled"
        else:
            stack.redis.zadd(naming.RELAYS, {"one": 1})
            await two.heartbeat(10)
        assert (song(stack, "state"), unwanted(stack)) == ("cancelled", {f"{SONGHASH} {PLAN}"})

    in_line(stack, act)


def test_the_parts_of_a_plan_that_another_takes_the_place_of_are_for_a_worker_to_remove(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one, divided(NAMES[0]))
        await one.settle(await part(one), "done")
        await division(one, replace(divided(NAMES[0]), plan="c" * 16))
        assert unwanted(stack) == {f"{SONGHASH} {PLAN}"}
        await one.settle(await part(one), "done")
        assert await one.settle(await taken(one), "done") == "done"
        assert unwanted(stack) == {f"{SONGHASH} {PLAN}", f"{SONGHASH} {'c' * 16}"}
        assert stack.redis.hgetall(naming.WANTED) == {}

    in_line(stack, act)


@pytest.mark.parametrize("state", ["done", "gone", "cancelled", "dropped"])
def test_a_worker_that_was_late_wants_nothing_for_a_job_that_has_ended(stack: Stack, state: str) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        await one.settle(job, "failed" if state == "dropped" else "waiting" if state == "cancelled" else state)
        if state == "cancelled":
            assert stack.jobs.cancel(SONG) == state
        elif state == "dropped":
            assert stack.jobs.drop(SONG)
        await want(one, job)
        assert (stack.redis.hgetall(naming.WANTED), unwanted(stack)) == ({}, {f"{SONGHASH} {PLAN}"})
        # Another upload of the same begins: they are wanted again.
        other = upload("the same.mp3")
        await one.claim(other)
        await want(one, await taken(one))
        assert (stack.redis.hgetall(naming.WANTED), unwanted(stack)) == ({other.job: f"{SONGHASH} {PLAN}"}, set())

    in_line(stack, act)


def test_a_full_redis_lets_songs_in_parts_end(stack: Stack) -> None:
    """The first write of each script needs no memory; then it may end (stems_relay.scripts)."""

    async def act(one: Inbox, two: Inbox) -> None:
        other = upload("the same.mp3")
        for each in (upload(), other):
            await one.claim(each)
        song, same = await taken(one), await taken(one)
        stack.redis.config_set("maxmemory", 1)
        try:
            for job in (song, same):
                await want(one, job)
            await want(one, song, replace(divided(), plan="c" * 16))
            assert await one.divide(song, replace(divided(), plan="c" * 16), MOST) == "divided"
            assert stack.jobs.cancel(SONG) == "cancelled"
            assert await one.settle(same, "gone") == "gone"
        finally:
            stack.redis.config_set("maxmemory", 0)
        assert unwanted(stack) == {f"{SONGHASH} {PLAN}", f"{SONGHASH} {'c' * 16}"}

    in_line(stack, act)
