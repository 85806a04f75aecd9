"""Divided songs and their parts in the line, command by command, in a real Redis; then through a relay."""

import json
import time

import pytest

from stems import moves, naming
from stems.contract import TYPE_DIVIDED
from stems.division import Divided, Next, Wanted
from stems_relay.inbox import Inbox, Taken
from stems_relay.part_scripts import TURN
from tests.integration.relay.test_line import in_line, taken, upload
from tests.relay_stack import Reply, Sink, Stack, ended
from tests.servers import until

SONGHASH, PLAN = "a" * 64, "b" * 16
NAMES = tuple(f"part-{number}-of-3" for number in (1, 2, 3))
SONG = upload().job
MOST = 3


def divided(*names: str, left_s: float = 900, begin: float = 0, end: float = 0.95) -> Divided:
    parts = tuple(Next(name, left_s) for name in names or NAMES)
    return Divided(SONGHASH, PLAN, parts, len(parts), begin, end)


async def division(relay: Inbox, answer: Divided | None = None) -> None:
    """Take the song and divide it."""
    song = await taken(relay)
    assert song.message == upload()
    await want(relay, song, answer)
    assert await relay.divide(song, answer or divided(), MOST) == "divided"


async def want(relay: Inbox, song: Taken, answer: Divided | None = None) -> None:
    """Note, as a worker does before it answers, whose parts lie in the bucket."""
    job, wish = song.message.job, f"{SONGHASH} {(answer or divided()).plan}"
    await relay._redis.register_script(moves.WANT)(keys=[naming.job_key(job)], args=[job, wish])


async def part(relay: Inbox) -> Taken:
    """Take the next part."""
    found = await taken(relay)
    assert isinstance(found.message, Wanted)
    return found


def name(job: Taken) -> str:
    return job.message.name if isinstance(job.message, Wanted) else job.message.key


def song(stack: Stack, field: str) -> str | None:
    found: str | None = stack.redis.hget(naming.job_key(SONG), field)
    return found


def left(stack: Stack) -> list[str]:
    """Return what there is in Redis of parts."""
    keys = stack.redis.keys("stems:job:p*") + stack.redis.keys("stems:parts*") + stack.redis.keys(naming.DIVIDED)
    return sorted({*keys} - {naming.WANTED, naming.UNWANTED})


def unwanted(stack: Stack) -> set[str]:
    """Return what is noted for workers to remove."""
    found: set[str] = stack.redis.smembers(naming.UNWANTED)
    return found


def test_the_song_goes_back_in_line_when_its_last_part_has_ended(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        assert (song(stack, "state"), song(stack, "songhash"), song(stack, "progress")) == (
            "separating",
            SONGHASH,
            "0.0000",
        )
        assert stack.jobs.fields(SONG, "songhash", "plan") == [SONGHASH, PLAN]
        view = stack.jobs.view()
        assert (view.waiting, view.running, [job.id for job in view.running_jobs]) == (0, 1, [SONG])
        assert [job.id for job in stack.jobs.running()] == [SONG]
        assert await one.claim(upload()) == "duplicate"  # a second announcement, a sweep
        parts = [await part(relay) for relay in (one, two, one)]
        assert [name(each) for each in parts] == list(NAMES)
        assert parts[1].message == Wanted(upload(), SONGHASH, PLAN, NAMES[1])
        assert (await one.take(), stack.jobs.view().running) == (None, 1)
        # The song's progress is the sum of its parts'.
        assert stack.jobs.update(parts[0].message.job, progress=0.5) is False
        assert float(song(stack, "progress") or 0) == pytest.approx(0.95 / 6, abs=1e-4)
        assert [await one.settle(parts[0], "done") for _ in range(2)] == ["done", "stale"]
        assert await two.settle(parts[1], "done") == "done"
        assert float(song(stack, "progress") or 0) == pytest.approx(0.95 * 2 / 3, abs=1e-4)
        assert await one.take() is None
        assert await one.settle(parts[2], "done") == "done"
        assert float(song(stack, "progress") or 0) == pytest.approx(0.95)
        assert left(stack) == []
        again = await taken(one)
        assert (again.message, again.attempts) == (upload(), 1)
        assert stack.jobs.begin(SONG) is False  # the second half of its way: neither start nor progress begin anew
        assert song(stack, "started_ms") is None
        assert float(song(stack, "progress") or 0) == pytest.approx(0.95)
        # Joined stem by stem: what comes then is the rest of the progress.
        assert await one.divide(again, divided("join-bass", "join-drums", begin=0.95, end=1), MOST) == "divided"
        await one.settle(await part(one), "done")
        assert float(song(stack, "progress") or 0) == pytest.approx(0.975)

    in_line(stack, act)


async def long(
    relay: Inbox, key: str, *, ago_s: float = 0, parts: int, step_s: float = 300, now: int | None = None
) -> None:
    """Enter a song that was uploaded so long ago, and divide it."""
    now = now or int((await relay._redis.time())[0] * 1000)
    assert await relay.claim(upload(key, now - int(1000 * ago_s))) == "new"
    names = tuple(f"part-{number:02}-of-{parts}" for number in range(1, parts + 1))
    assert await relay.divide(await taken(relay), divided(*names, left_s=parts * step_s), MOST) == "divided"


async def order(relay: Inbox) -> list[str]:
    """Take all that is due; return the keys, a part's with its number."""
    found = await relay.take(count=100)
    assert isinstance(found, list)
    numbers = [f" {int(each.message.name.split('-')[1])}" if isinstance(each.message, Wanted) else "" for each in found]
    return [f"{each.message.key}{number}" for each, number in zip(found, numbers, strict=True)]


def test_songs_pass_parts_and_of_nine_deliveries_one_is_a_part(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        # However long the long one has waited, and however many there are of its kind.
        await long(one, "older", ago_s=100_000, parts=2)
        await long(one, "old", ago_s=99_000, parts=2)
        stack.redis.delete(naming.PASSED)  # `old` was one
        now = stack.redis.time()[0] * 1000
        for number in range(2 * TURN + 3):
            await one.claim(upload(f"{number:02}", now + number - 1000))
        found = await order(one)
        passed = [f"{number:02}" for number in range(2 * TURN + 3)]
        assert found == [
            *passed[:TURN], "older 1", *passed[TURN : 2 * TURN], "older 2", *passed[2 * TURN :], "old 1", "old 2",
        ]  # fmt: skip
        # Taken one by one it is the same.
        await long(one, "new", ago_s=0, parts=2)
        for number in range(TURN + 1):
            await one.claim(upload(f"b{number}", now + number - 1000))
        assert [name(await taken(one)) for _ in range(TURN + 2)] == [
            *(f"b{number}" for number in range(TURN)), "part-01-of-2", f"b{TURN}",
        ]  # fmt: skip

    in_line(stack, act)


def test_of_long_songs_one_ends_after_the_other_the_shorter_first(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await long(one, "a", ago_s=20, parts=11)
        await long(one, "b", ago_s=10, parts=11)
        await long(one, "c", ago_s=0, parts=2)
        assert await order(one) == [
            *(f"c {number}" for number in (1, 2)),
            *(f"{key} {number}" for key in ("a", "b") for number in range(1, 12)),
        ]

    in_line(stack, act)


def test_of_equals_that_came_at_once_one_ends_after_the_other(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        now = int((await one._redis.time())[0] * 1000) - 1000
        for key in ("a", "b"):
            await long(one, key, parts=11, now=now)
        # Whichever is first.
        found = await order(one)
        assert sorted([found[:11], found[11:]]) == [[f"{key} {number}" for number in range(1, 12)] for key in "ab"]

    in_line(stack, act)


def test_a_long_song_waits_for_none_that_came_when_it_would_have_been_played(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await long(one, "old", ago_s=3601, parts=12)
        await long(one, "short", ago_s=0, parts=2, step_s=0.2)
        assert (await order(one))[:2] == ["old 1", "old 2"]

    in_line(stack, act)


def test_a_part_that_fails_waits_and_counts_as_songs_do(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one, divided(NAMES[0]))
        first = await part(one)
        stack.jobs.update(first.message.job, progress=0.9)
        assert await one.settle(first, "waiting", error="no answer", delay_s=0.2) == "waiting"
        assert (song(stack, "error"), song(stack, "progress")) == ("no answer", "0.0000")
        assert await one.take() is None
        time.sleep(0.2)
        second = await part(one)
        assert (second.attempts, second.tries) == (2, 2)
        assert await one.settle(first, "done") == "stale"  # the answer to the delivery before
        # Not tried: back to its place, and no attempt.
        assert await one.settle(second, "waiting", refund=True) == "waiting"
        third = await part(one)
        assert (third.attempts, third.tries) == (2, 3)
        # Taken, and never delivered.
        await one.put_back(third.message.job)
        # Its relay dies.
        fourth = await part(one)
        assert fourth.attempts == 2
        stack.redis.zadd(naming.RELAYS, {"one": 1})
        assert await two.heartbeat(10) == 1
        fifth = await part(two)
        assert (fifth.attempts, fifth.delivery != fourth.delivery) == (3, True)
        assert await two.settle(fifth, "done") == "done"
        assert (song(stack, "error"), left(stack)) == ("", [])

    in_line(stack, act)


def test_a_part_that_fails_for_good_is_the_end_of_its_song(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        first, second = await part(one), await part(two)
        assert await one.settle(first, "failed", error="part-1-of-3: it is noise") == "failed"
        assert (song(stack, "state"), song(stack, "error")) == ("failed", "part-1-of-3: it is noise")
        assert [job.id for job in stack.jobs.failed()] == [SONG]
        assert await one.take() is None  # the third is not delivered any more
        # The second is told to stop, and its answer says nothing.
        assert stack.jobs.update(second.message.job, progress=0.5) is True
        assert await two.settle(second, "done") == "stale"
        assert left(stack) == []
        assert await one.claim(upload()) == "failed"
        # Tried again, it goes on with the parts that are there.
        assert stack.jobs.retry(SONG)
        assert unwanted(stack) == set()
        await division(one, divided(NAMES[0]))
        assert await one.settle(await part(one), "done") == "done"
        assert (await taken(one)).message == upload()

    in_line(stack, act)


def test_a_part_that_is_gone_sends_its_song_back_at_once(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        first, second = await part(one), await part(two)
        assert [await one.settle(first, "gone") for _ in range(2)] == ["gone", "stale"]
        assert left(stack) == []  # the third is not delivered any more
        again = await taken(two)
        assert (again.message, again.attempts) == (upload(), 1)
        assert stack.jobs.update(second.message.job, progress=0.5) is False  # it may be the plan alone that is gone
        assert await two.settle(again, "gone") == "gone"
        assert stack.jobs.update(second.message.job, progress=0.6) is True
        assert await two.settle(second, "done") == "stale"
        assert (await one.take(), song(stack, "state"), left(stack)) == (None, "gone", [])

    in_line(stack, act)


def test_an_answer_to_a_part_that_another_relay_has_by_now_leaves_nothing(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one, divided(*NAMES[:2]))
        first, second = await part(one), await part(two)
        assert await two.settle(second, "gone") == "gone"
        await division(two, divided(NAMES[0]))
        anew = await part(two)
        assert anew.message == first.message
        assert await one.settle(first, "done") == "stale"
        assert stack.redis.keys("stems:delivering:*") == [naming.delivering_key("two")]
        assert await two.settle(first, "done") == "stale"  # its own delivery is not over with one before it
        assert await two.settle(anew, "done") == "done"
        assert (left(stack), stack.redis.keys("stems:delivering:*")) == ([], [])

    in_line(stack, act)


def test_a_divided_song_that_is_cancelled_leaves_nothing_in_line(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        first = await part(one)
        assert [stack.jobs.cancel(SONG) for _ in range(2)] == ["cancelled", "cancelled"]
        assert stack.jobs.update(first.message.job, progress=0.5) is True
        assert await one.settle(first, "gone") == "stale"
        assert (await one.take(), song(stack, "state"), left(stack)) == (None, "cancelled", [])
        assert unwanted(stack) == {f"{SONGHASH} {PLAN}"}
        assert await one.claim(upload()) == "cancelled"

    in_line(stack, act)


@pytest.mark.parametrize("how", ["again", "cancelled", "often"])
def test_what_happens_while_a_song_is_divided_comes_first(stack: Stack, how: str) -> None:
    later = upload(uploaded_ms=1_790_000_000_001)

    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        for _ in range(MOST if how == "often" else 0):
            await division(one, divided(NAMES[0]))
            await one.settle(await part(one), "done")
        job = await taken(one)
        if how == "again":
            assert await one.claim(later) == "again"
        elif how == "cancelled":
            assert stack.jobs.cancel(SONG) == "cancelled"
        assert [await one.divide(job, divided(), MOST) for _ in range(2)] == [how, how]
        assert left(stack) == []
        if how == "often":
            assert await one.settle(job, "failed", error="often") == "failed"
            # Who tries it again has mended the cause: it may be divided as often as at first.
            assert stack.jobs.retry(SONG)
            await division(one)
            return
        entered = await one.settle(job, "waiting", refund=True)
        assert entered == {"again": "waiting", "cancelled": "cancelled"}[how]
        assert ((await taken(one)).message == later) if how == "again" else (await one.take() is None)

    in_line(stack, act)


def test_a_newer_upload_takes_the_place_of_a_divided_song(stack: Stack) -> None:
    later = upload(uploaded_ms=1_790_000_000_001)

    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        first = await part(two)
        assert await one.claim(later) == "new"
        assert left(stack) == []
        assert await two.settle(first, "done") == "stale"
        again = await taken(one)
        assert again.message == later
        assert await one.take() is None

    in_line(stack, act)


def test_an_answer_to_a_part_of_an_earlier_division_is_none_to_the_same_part_now(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        first, second = await part(one), await part(one)
        assert await one.settle(first, "failed", error="the disk is full") == "failed"
        assert stack.jobs.retry(SONG)
        await division(one)
        # Nobody has taken the new one yet; then somebody has.
        assert await one.settle(second, "failed", error="the disk is full") == "stale"
        assert (song(stack, "state"), stack.redis.zcard(naming.PARTS)) == ("separating", 3)
        now = [await part(two) for _ in NAMES]
        assert await one.settle(second, "done") == "stale"
        assert [await two.settle(each, "done") for each in now] == ["done"] * 3
        assert (await taken(one)).message == upload()

    in_line(stack, act)


def test_a_division_entered_twice_or_too_late_is_one(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        assert [await one.divide(job, divided(), MOST) for _ in range(2)] == ["divided", "divided"]
        assert stack.redis.zcard(naming.PARTS) == 3
        await one.put_back(SONG)  # nothing that is not being delivered goes back
        for _ in NAMES:
            await one.settle(await part(one), "done")
        again = await taken(two)
        assert await one.divide(job, divided(), MOST) == "stale"
        assert await two.settle(again, "done") == "done"

    in_line(stack, act)


def test_how_often_a_song_was_divided_is_forgotten_when_its_parts_may_have_expired(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        for _ in range(MOST):
            await division(one, divided(NAMES[0]))
            await one.settle(await part(one), "done")
        job = await taken(one)
        assert await one.divide(job, divided(), MOST) == "often"
        stack.redis.hset(naming.job_key(SONG), "divided_ms", int(1000 * (time.time() - 25 * 3600)))
        assert await one.divide(job, divided(NAMES[0]), MOST) == "divided"
        await one.settle(await part(one), "done")
        assert stack.redis.hget(naming.job_key(SONG), "rounds") == "1"

    in_line(stack, act)


def test_each_division_of_a_song_begins_with_no_tries(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        for _ in range(3):
            await one.settle(await taken(one), "waiting", refund=True)
        await division(one, divided(NAMES[0]))
        await one.settle(await part(one), "done")
        assert (await taken(one)).tries == 1

    in_line(stack, act)


@pytest.mark.parametrize("alive", [True, False])
def test_a_part_whose_record_is_lost_with_its_relay_does_not_hold_up_its_song(stack: Stack, alive: bool) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one, divided(NAMES[0]))
        stack.redis.delete(naming.job_key((await part(one)).message.job))
        if alive:
            await one.sign_off()
        else:
            await two.heartbeat(-1)
        assert left(stack) == []
        # Of a song that has no parts on their way any more, nothing goes back in line.
        await division(two, divided(NAMES[0]))
        assert (await part(two)).message.job
        assert stack.jobs.cancel(SONG) == "cancelled"
        await one.heartbeat(-1)
        assert (await one.take(), song(stack, "state")) == (None, "cancelled")

    in_line(stack, act)


def test_a_part_whose_record_is_lost_does_not_hold_up_its_song(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await division(one)
        for job in stack.redis.zrange(naming.PARTS, 0, 1):
            stack.redis.delete(naming.job_key(job))
        last = await part(one)
        stack.redis.delete(naming.job_key(last.message.job))
        assert await one.settle(last, "done") == "stale"
        assert (await taken(one)).message == upload()
        assert left(stack) == []

    in_line(stack, act)


def test_a_relay_knows_what_all_relays_have_in_work_and_whether_others_wait(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        for number in range(130):
            await one.claim(upload(f"{number}"))
        found = await one.take(count=256)  # more than are given at once
        assert isinstance(found, list)
        assert {each.busy for each in found} == {None}
        found = await two.take(count=256)
        assert isinstance(found, list)
        assert {each.busy for each in found} == {130}
        assert await one.claim(upload("last")) == "new"
        assert (await taken(one)).busy == 131
        # A part that waits is somebody who waits.
        await one.claim(upload())
        await division(one)
        assert [(await part(one)).busy for _ in NAMES] == [None, None, 134]

    in_line(stack, act)


def test_no_song_is_divided_among_places_that_others_wait_for(stack: Stack, sink: Sink) -> None:
    sink.hold("held")
    stack.relay(STEMS_DIVIDE="latency", STEMS_MAX_IN_FLIGHT="1")
    stack.put("held")
    until(lambda: sink.of("held"))
    stack.relay(STEMS_DIVIDE="latency", STEMS_MAX_IN_FLIGHT="4")
    stack.put("song")
    until(lambda: sink.of("song"))
    sink.release()
    assert [sink.of(key)[0].headers.get("ce-stemsplaces") for key in ("held", "song")] == ["1", "3"]


def answer(names: tuple[str, ...]) -> Reply:
    event = {"ce-id": "1", "ce-source": "/stems/queue", "ce-specversion": "1.0", "ce-type": TYPE_DIVIDED}
    return Reply(200, json.dumps(divided(*names).to_dict()), {**event, "content-type": "application/json"})


def test_a_relay_delivers_parts_and_then_the_song_again(stack: Stack, sink: Sink) -> None:
    sink.script["song"] = [answer(NAMES), Reply()]
    stack.relay()
    etag = stack.put("song")
    until(stack.idle)
    until(lambda: stack.job("song", etag).get("state") == "done")
    asked = [(each.part, each.headers["ce-type"]) for each in sink.of("song")]
    assert asked[0] == asked[-1] == ("", "com.amazonaws.s3.ObjectCreated:Put")
    assert sorted(asked[1:-1]) == [(name, "dev.stems.part.wanted") for name in NAMES]
    traces = {each.headers["traceparent"].split("-")[1] for each in sink.of("song")}
    assert len(traces) == 1


def test_the_dead_letter_of_a_part_is_that_of_its_song(stack: Stack, sink: Sink) -> None:
    sink.script["song"] = [answer(NAMES)]
    sink.script[f"song {NAMES[1]}"] = [Reply(422, json.dumps({"detail": "it is noise"}))]
    relay = stack.relay(STEMS_MAX_IN_FLIGHT="1")
    etag = stack.put("song")
    until(lambda: stack.job("song", etag).get("state") == "failed")
    assert stack.job("song", etag)["error"] == f"{NAMES[1]}: it is noise"
    until(lambda: stack.tags("song").get("state") == "failed")
    assert stack.tags("song")["error"] == f"{NAMES[1]}: it is noise"
    assert [each.part for each in sink.of("song")] == ["", *NAMES[:2]]
    ended(relay, 15)


def test_an_answer_that_divides_and_cannot_be_read_is_a_dead_letter(stack: Stack, sink: Sink) -> None:
    good = answer(NAMES)
    sink.script["song"] = [Reply(200, '{"parts": 7}', good.headers)]
    stack.relay()
    etag = stack.put("song")
    until(lambda: stack.job("song", etag).get("state") == "failed")
    assert "its answer cannot be read" in stack.job("song", etag)["error"]
