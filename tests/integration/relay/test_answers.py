"""What becomes of a song by what the sink answers."""

import json
from itertools import pairwise

import pytest

from stems import naming
from tests.relay_stack import Reply, Sink, Stack
from tests.servers import until


def test_a_song_that_fails_is_tried_again_ever_later_and_then_kept_as_a_dead_letter(stack: Stack, sink: Sink) -> None:
    sink.script["bad.mp3"] = [Reply(500, json.dumps({"detail": f"no {word}"})) for word in ("one", "two", "three", "4")]
    stack.announce("bad.mp3", "good.mp3")
    etag = stack.root.stat_object("queue", "bad.mp3").etag
    stack.relay(STEMS_MAX_ATTEMPTS="4", STEMS_BACKOFF_S="0.2", STEMS_MAX_IN_FLIGHT="1")
    until(lambda: stack.jobs.view().failed == 1)
    times = [delivery.at for delivery in sink.of("bad.mp3")]
    delays = [later - before for before, later in pairwise(times)]
    assert len(times) == 4
    assert all(delay > least for delay, least in zip(delays, (0.1, 0.2, 0.4), strict=True)), delays
    assert sink.of("good.mp3")[0].at < times[1], "others need not wait for it"
    (dead,) = stack.jobs.view().failed_jobs
    assert (dead.key, dead.state, dead.attempts) == ("bad.mp3", "failed", 4)
    assert dead.error == "gave up after 4 attempts; the last one: no 4"
    until(lambda: stack.tags("bad.mp3").get("state") == "failed")
    assert stack.tags("bad.mp3") == {"state": "failed", "etag": etag, "error": dead.error.replace(";", "")}
    assert stack.redis.hgetall(naming.ATTEMPTS) == {}


def test_a_song_that_never_succeeds_is_a_dead_letter_at_once(stack: Stack, sink: Sink) -> None:
    sink.script["no-song.txt"] = [Reply(422, json.dumps({"detail": "not audio"}))]
    sink.script["odd.mp3"] = [Reply(308, headers={"location": "/there"})]
    etag = stack.put("no-song.txt")
    stack.put("odd.mp3")
    stack.put("song.mp3")
    stack.relay()
    until(lambda: stack.jobs.view().failed == 2 and stack.idle())
    until(lambda: stack.tags("no-song.txt").get("state") == "failed")
    assert sorted(sink.keys()) == ["no-song.txt", "odd.mp3", "song.mp3"]
    assert stack.tags("no-song.txt") == {"state": "failed", "etag": etag, "error": "not audio"}
    assert stack.job("no-song.txt", etag)["error"] == "not audio"


def test_busy_is_waited_for_and_not_counted(stack: Stack, sink: Sink) -> None:
    busy = Reply(409, json.dumps({"detail": "in work"}), {"retry-after": "1"})
    sink.script["a.mp3"] = [busy, busy, Reply(200)]
    stack.announce("a.mp3", "b.mp3")
    etag = stack.root.stat_object("queue", "a.mp3").etag or ""
    stack.relay(STEMS_MAX_ATTEMPTS="1", STEMS_MAX_IN_FLIGHT="1")
    until(lambda: len(sink.of("a.mp3")) == 3 and stack.idle())
    times = [delivery.at for delivery in sink.of("a.mp3")]
    assert all(later - before >= 1 for before, later in pairwise(times)), times
    assert sink.of("b.mp3")[0].at < times[1], "others need not wait for it"
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.job("a.mp3", etag)["attempts"] == "1"


@pytest.mark.parametrize(
    "away",
    [Reply(503, "MinIO is away", {"retry-after": "1"}), Reply(429, headers={"retry-after": "1"}), Reply(404), None],
    ids=["503", "429", "404", "refused"],
)
def test_while_the_sink_is_away_the_line_stands_and_then_goes_on(stack: Stack, sink: Sink, away: Reply | None) -> None:
    keys = ["a.mp3", "b.mp3", "c.mp3"]
    first, *_ = stack.announce(*keys)
    if away:
        sink.script["a.mp3"] = [away, away, away, Reply(200)]
    else:
        sink.close()
    stack.relay(STEMS_MAX_ATTEMPTS="1", STEMS_MAX_IN_FLIGHT="1")
    if not away:
        until(lambda: int(stack.redis.hget(naming.job_key(first), "tries") or 0) >= 3)
        sink.open()
    until(lambda: len(sink.deliveries) == (6 if away else 3) and stack.idle())
    assert sink.keys() == (["a.mp3"] * 3 if away else []) + keys, "in their order"
    assert stack.jobs.view().failed == 0
    assert stack.redis.hgetall(naming.ATTEMPTS) == {}


def test_a_sink_that_is_unable_to_take_one_song_alone_does_not_hold_up_the_others(stack: Stack, sink: Sink) -> None:
    sink.script["huge.mp3"] = [Reply(503, json.dumps({"detail": "disk full"}), {"retry-after": "0"})]
    stack.announce("huge.mp3", "0.mp3", "1.mp3", "2.mp3")
    stack.relay(STEMS_MAX_ATTEMPTS="2", STEMS_MAX_IN_FLIGHT="1", STEMS_BACKOFF_MAX_S="0.1")
    until(lambda: stack.jobs.view().failed == 1 and stack.idle())
    assert sorted(set(sink.keys())) == ["0.mp3", "1.mp3", "2.mp3", "huge.mp3"]
    assert sink.keys()[:10] == ["huge.mp3"] * 10, "at first it keeps its place: the sink may be away"
    assert stack.jobs.view().failed_jobs[0].error.endswith("disk full")
