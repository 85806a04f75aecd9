"""What dies, is paused or is told to stop in mid delivery."""

import asyncio
import contextlib
import signal

from stems import naming
from stems_relay.courier import cancel
from tests.relay_stack import Reply, Sink, Stack, ended
from tests.servers import until


def test_a_relay_killed_in_mid_delivery_leaves_the_song_to_the_next(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3")
    relay = stack.relay()
    until(lambda: sink.deliveries)
    assert stack.jobs.view().running == 1
    ended(relay, signal.SIGKILL)
    sink.release()
    assert stack.job("a.mp3", etag)["state"] == "waiting", "nobody has entered an answer"
    stack.relay()
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.job("a.mp3", etag)["attempts"] == "2", "it may have been the song that killed the relay"


def test_a_song_that_kills_every_relay_becomes_a_dead_letter(stack: Stack, sink: Sink) -> None:
    sink.hold("killer.mp3")
    etag = stack.put("killer.mp3")
    stack.redis.hset(naming.ATTEMPTS, naming.job_id("queue", "killer.mp3", etag), 1)
    for _ in range(2):
        seen = len(sink.deliveries)
        relay = stack.relay(STEMS_MAX_ATTEMPTS="2")
        until(lambda seen=seen: len(sink.deliveries) > seen)  # type: ignore[misc]
        ended(relay, signal.SIGKILL)
    stack.relay(STEMS_MAX_ATTEMPTS="2")
    until(lambda: stack.jobs.view().failed == 1)
    assert len(sink.deliveries) == 2
    assert "2 deliveries" in stack.job("killer.mp3", etag)["error"]
    until(lambda: stack.tags("killer.mp3").get("state") == "failed")


def test_of_two_relays_one_is_killed_and_the_other_takes_over(stack: Stack, sink: Sink) -> None:
    keys = [f"{number}.mp3" for number in range(6)]
    sink.hold(*keys)
    relays = [stack.relay(STEMS_MAX_IN_FLIGHT="2"), stack.relay(STEMS_MAX_IN_FLIGHT="2")]
    for key in keys:
        stack.put(key)
    until(lambda: len(sink.deliveries) == 4)
    ended(relays[0], signal.SIGKILL)
    until(lambda: stack.redis.zcard(naming.RELAYS) == 1)
    sink.release()
    until(lambda: len(set(sink.keys())) == 6 and stack.idle())
    assert len(sink.deliveries) == 8, "the two that the dead one had were delivered twice, no other"


def test_a_relay_that_was_paused_does_not_enter_an_old_answer(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    sink.script["a.mp3"] = [Reply(422, "of the first delivery"), Reply(200)]
    etag = stack.put("a.mp3")
    paused = stack.relay()
    until(lambda: sink.deliveries)
    paused.send_signal(signal.SIGSTOP)
    stack.relay()
    until(lambda: len(sink.deliveries) == 2)
    paused.send_signal(signal.SIGCONT)
    until(lambda: stack.redis.zcard(naming.RELAYS) == 2)
    sink.release()
    until(stack.idle)
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.jobs.view().failed == 0
    stack.put("b.mp3")
    until(lambda: sink.of("b.mp3") and stack.idle())


def test_a_relay_that_is_told_to_stop_hands_back_at_once(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3", "b.mp3")
    stack.announce("a.mp3", "b.mp3")
    relay = stack.relay()
    until(lambda: len(sink.deliveries) == 2)
    ended(relay, signal.SIGTERM, 5)
    assert relay.returncode == 0
    view = stack.jobs.view()
    assert [job.key for job in view.waiting_jobs] == ["a.mp3", "b.mp3"]
    assert (view.running, stack.redis.hgetall(naming.ATTEMPTS), stack.redis.zcard(naming.RELAYS)) == (0, {}, 0)


def test_a_relay_that_is_told_to_stop_lets_a_song_end_and_stays_alive_meanwhile(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3")
    relay = stack.relay(STEMS_GRACE_S="30")
    until(lambda: sink.deliveries)
    relay.send_signal(signal.SIGTERM)
    (name,) = stack.redis.zrange(naming.RELAYS, 0, -1)
    other = stack.relay()
    (_, before) = stack.redis.zrange(naming.RELAYS, 0, -1, withscores=True)[0]
    until(lambda: stack.redis.zscore(naming.RELAYS, name) > before + 1500)  # five heartbeats: more than the patience
    sink.release()
    assert relay.wait(10) == 0
    assert other.poll() is None
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert len(sink.deliveries) == 1


def test_a_loop_ends_though_a_library_swallows_the_first_request() -> None:
    async def run() -> None:
        async def stubborn() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await asyncio.wait_for(cancel([task]), 10)
        assert task.cancelled()

    asyncio.run(run())


def test_redis_is_restarted_in_mid_delivery(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3")
    stack.put("b.mp3")
    stack.relay()
    until(lambda: sink.of("a.mp3") and stack.jobs.view().running == 1)
    ended(stack.redis_server, signal.SIGKILL)
    sink.release()
    stack.start_redis()
    until(lambda: stack.job("a.mp3", etag).get("state") == "done" and stack.idle())
    assert len(sink.of("a.mp3")) == 1, "its answer was entered when Redis was back"
    stack.put("c.mp3")
    until(lambda: sink.of("c.mp3"))
