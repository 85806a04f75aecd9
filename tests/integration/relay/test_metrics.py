"""What Prometheus finds at the relay."""

import json

from stems import metrics, naming
from tests.metrics import scrape
from tests.receiver import Receiver
from tests.relay_stack import Reply, Sink, Stack, ended
from tests.servers import free_port, until

TIMING = (
    "fetch;dur=10, decode;dur=200, separate;dur=9000.5, encode;dur=700, put;dur=90, music;dur=30000, total;dur=10050"
)


def test_a_relay_counts_what_it_delivers(stack: Stack, sink: Sink) -> None:
    port = free_port()
    started = {"server-timing": f"{TIMING}, start;dur=4000"}
    sink.script["new.mp3"] = [Reply(500), Reply(200, "{}", started)]
    sink.script["again.mp3"] = [Reply(200, "{}", {"server-timing": "fetch;dur=20, music;dur=60000, total;dur=30"})]
    sink.script["bad.mp3"] = [Reply(422, json.dumps({"detail": "no song"}))]
    sink.script["odd.mp3"] = [Reply(200, "{}", {"server-timing": 'cache;desc="a, b";dur=x, ;;=,total'})]
    stack.relay(STEMS_METRICS_PORT=str(port))
    assert scrape(port)["stems_deliveries_total line=songs verdict=done"] == 0, "there before the first"
    for key in ("new.mp3", "again.mp3", "bad.mp3", "odd.mp3"):
        stack.put(key)
    until(lambda: len(sink.deliveries) == 5 and stack.idle())
    until(lambda: scrape(port)["stems_deliveries_total line=songs verdict=done"] == 3)
    found = scrape(port)
    assert found["stems_deliveries_total line=songs verdict=retry"] == 1
    assert found["stems_deliveries_total line=songs verdict=dead"] == 1
    assert found["stems_stage_seconds_sum stage=separate"] == 9.0005
    assert (found["stems_stage_seconds_count stage=fetch"], found["stems_stage_seconds_count stage=put"]) == (2, 1)
    assert found["stems_stage_seconds_count stage=wait"] == 2
    assert found["stems_music_seconds_total"] == 30, "of what was separated, not of what was there already"
    assert (found["stems_cold_start_seconds_count"], found["stems_cold_start_seconds_sum"]) == (1, 4)
    assert found["stems_song_turnaround_seconds_count"] == 3
    assert 0 < found["stems_song_turnaround_seconds_sum"] < 60
    assert found["process_resident_memory_bytes"] > 1e6
    assert {name.split(" ")[0] for name in found if name.startswith("stems_")} <= set(metrics.names())


def test_the_lines_are_what_redis_says(stack: Stack, sink: Sink) -> None:
    ports = [free_port(), free_port()]
    sink.hold("held.mp3")
    sink.script["bad.mp3"] = [Reply(422)]
    sink.script["later.mp3"] = [Reply(409, "", {"retry-after": "600"})]
    event = {"ce-id": "1", "ce-source": "x", "ce-type": "y", "ce-specversion": "1.0"}
    sink.script["done.mp3"] = [Reply(200, "", event)]
    stack.announce("bad.mp3", "later.mp3", "done.mp3", "held.mp3", "waits.mp3", "waits-too.mp3")
    receiver = Receiver()
    receiver.free.clear()
    with receiver.open():
        settings = {"STEMS_MAX_IN_FLIGHT": "1", "STEMS_REPLY_SINK": receiver.url}
        first = stack.relay(STEMS_METRICS_PORT=str(ports[0]), **settings)
        until(lambda: sink.of("held.mp3") and receiver.posts)
        first_found = scrape(ports[0])
        stack.relay(STEMS_METRICS_PORT=str(ports[1]), STEMS_MAX_IN_FLIGHT="1")
        until(lambda: scrape(ports[1])["stems_relays"] == 2)
        until(lambda: scrape(ports[1])["stems_queue_jobs line=songs state=waiting"] == 0)
        second_found = scrape(ports[1])
        stack.redis_server.kill()
        stack.redis_server.wait()
        until(lambda: scrape(ports[1])["stems_redis_up"] == 0)
        assert not any(name.startswith("stems_queue") for name in scrape(ports[1])), "nothing is known of it"
        stack.start_redis()
        until(lambda: scrape(ports[1])["stems_redis_up"] == 1)
        receiver.free.set()
        ended(first, 9)
    expected = {"waiting": 2, "delayed": 1, "delivering": 1, "dead": 1}
    assert {state: first_found[f"stems_queue_jobs line=songs state={state}"] for state in expected} == expected
    replies = {"waiting": 0, "delayed": 0, "delivering": 1, "dead": 0}
    assert {state: first_found[f"stems_queue_jobs line=replies state={state}"] for state in replies} == replies
    assert (first_found["stems_redis_up"], first_found["stems_queue_notifications"], first_found["stems_relays"]) == (
        1,
        0,
        1,
    )
    assert 0 < first_found["stems_queue_oldest_age_seconds line=songs"] < 60
    assert first_found["stems_queue_oldest_age_seconds line=replies"] == 0
    assert second_found["stems_queue_jobs line=songs state=delivering"] == 1, "of all relays"
    assert stack.redis.exists(naming.DEAD)


def test_a_port_that_is_taken_holds_up_nothing_and_is_taken_over(stack: Stack, sink: Sink) -> None:
    port = free_port()
    first = stack.relay(STEMS_METRICS_PORT=str(port))
    stack.relay(STEMS_METRICS_PORT=str(port))
    stack.put("a.mp3")
    until(lambda: sink.of("a.mp3") and stack.idle())
    ended(first, 9)
    until(lambda: scrape(port)["stems_redis_up"] == 1)
    assert f"no metrics on port {port} yet" in (stack.folder / "relay.log").read_text()
