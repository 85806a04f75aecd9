"""What the function answers goes on to STEMS_REPLY_SINK, by the rules of every delivery."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from stems import naming
from stems.contract import TYPE_SEPARATED
from tests.cli import alone, run
from tests.receiver import Receiver
from tests.relay_stack import Reply, Sink, Stack, ended
from tests.servers import until

EVENT = {
    "ce-specversion": "1.0",
    "ce-id": "job.1",
    "ce-source": "/stems/queue",
    "ce-type": TYPE_SEPARATED,
    "ce-subject": "a%20song.mp3",
    "content-type": "application/json",
}
NOBODY = "http://127.0.0.1:9"


def answers(sink: Sink, key: str, headers: Mapping[str, str] = EVENT, body: str = '{"songhash": "ä"}') -> None:
    sink.script[key] = [Reply(200, body, headers)]


def test_a_reply_is_passed_on_as_it_came(stack: Stack, sink: Sink) -> None:
    answers(sink, "a song.mp3")
    with Receiver().open() as receiver:
        stack.relay(STEMS_REPLY_SINK=f"{receiver.url}/hook")
        etag = stack.put("a song.mp3")
        until(lambda: receiver.posts and not stack.redis.zcard(naming.REPLIES))
        until(lambda: not list(stack.redis.scan_iter("stems:job:r*")))
    (post,) = receiver.posts
    assert post.path == "/hook"
    assert {name: post.headers.get(name) for name in EVENT} == EVENT
    assert json.loads(post.body) == {"songhash": "ä"}
    (delivery,) = sink.of("a song.mp3")
    sent = {name.lower(): value for name, value in delivery.headers.items()}
    assert post.headers["traceparent"].split("-")[2] != sent["traceparent"].split("-")[2]
    assert stack.job("a song.mp3", etag)["state"] == "done"


def test_a_structured_reply_is_passed_on_and_what_is_no_event_is_not(stack: Stack, sink: Sink) -> None:
    carried = f"00-{'a' * 32}-{'b' * 16}-01"
    event = json.dumps({"specversion": "1.0", "id": "1", "source": "x", "type": "y", "traceparent": carried})
    answers(sink, "structured", {"content-type": "application/cloudevents+json; charset=utf-8"}, event)
    answers(sink, "plain", {"content-type": "application/json"})
    answers(sink, "half", {"ce-id": "1", "ce-type": "x"})
    answers(sink, "last")
    with Receiver().open() as receiver:
        stack.announce("structured", "plain", "half", "last")
        stack.relay(STEMS_REPLY_SINK=receiver.url, STEMS_MAX_IN_FLIGHT="1")
        until(lambda: len(receiver.posts) == 2 and stack.idle())
    structured, last = sorted(receiver.posts, key=lambda post: "ce-id" in post.headers)
    assert structured.body == event.encode()
    assert structured.headers["traceparent"].split("-")[1] == "a" * 32
    assert last.headers["ce-id"] == "job.1"


def test_a_receiver_that_fails_gets_the_reply_later_and_holds_up_no_song(stack: Stack, sink: Sink) -> None:
    answers(sink, "a.mp3")
    with Receiver(500, 404, 503, 429, 202).open() as receiver:
        stack.relay(STEMS_REPLY_SINK=receiver.url)
        etag = stack.put("a.mp3")
        until(lambda: stack.job("a.mp3", etag).get("state") == "done")
        stack.put("b.mp3")
        until(lambda: len(receiver.posts) == 5)
        until(lambda: not stack.redis.zcard(naming.REPLIES) and stack.idle())
    assert len({post.headers["ce-id"] for post in receiver.posts}) == 1
    assert len({post.headers["traceparent"] for post in receiver.posts}) == 5, "each attempt has a span of its own"
    assert len({post.headers["traceparent"].split("-")[1] for post in receiver.posts}) == 1
    assert (len(sink.of("a.mp3")), len(sink.of("b.mp3"))) == (1, 1)
    assert stack.redis.hgetall(naming.ATTEMPTS) == {}


def test_a_reply_that_nobody_takes_is_a_dead_letter_of_its_own(
    stack: Stack, sink: Sink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone(monkeypatch, tmp_path)
    for name, value in stack.environ.items():
        monkeypatch.setenv(name, value)
    answers(sink, "a song.mp3")
    with Receiver(422).open() as receiver:
        stack.relay(STEMS_REPLY_SINK=receiver.url)
        etag = stack.put("a song.mp3")
        until(lambda: stack.redis.zcard(naming.DEAD_REPLIES) == 1)
        assert stack.job("a song.mp3", etag)["state"] == "done"
        assert stack.jobs.view().failed == 0, "nothing is wrong with the song"
        (dead,) = stack.jobs.failed()
        listed = run("dead", "list").stdout
        assert "reply to a song.mp3" in listed
        assert dead.id[:8] in listed
        receiver.script[:] = [200]
        assert "back in line" in run("dead", "retry", dead.id[:8]).stdout
        until(lambda: len(receiver.posts) == 2 and not list(stack.redis.scan_iter("stems:job:r*")))
    assert stack.redis.zcard(naming.DEAD_REPLIES) == 0
    answers(sink, "b.mp3")
    with Receiver(400).open() as receiver:
        ended(stack.relays[0], signal.SIGTERM)
        stack.relay(STEMS_REPLY_SINK=receiver.url)
        stack.put("b.mp3")
        until(lambda: stack.redis.zcard(naming.DEAD_REPLIES) == 1)
        assert "dropped" in run("dead", "drop", "--all").stdout
    assert stack.redis.zcard(naming.DEAD_REPLIES) == 0
    assert stack.tags("b.mp3").get("state") != "dropped", "the song itself is done"


def test_a_reply_outlives_the_relay_that_waits_to_send_it(stack: Stack, sink: Sink) -> None:
    answers(sink, "a.mp3")
    relay = stack.relay(STEMS_REPLY_SINK=NOBODY)
    etag = stack.put("a.mp3")
    until(lambda: stack.job("a.mp3", etag).get("state") == "done")
    ended(relay, signal.SIGKILL)
    assert sent_by_the_next(stack, Receiver()) == ["job.1"]
    assert len(sink.of("a.mp3")) == 1, "the song was not separated again for it"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_reply_outlives_the_relay_that_is_sending_it(stack: Stack, sink: Sink, number: int) -> None:
    answers(sink, "a.mp3")
    receiver = Receiver()
    receiver.free.clear()
    with receiver.open():
        relay = stack.relay(STEMS_REPLY_SINK=receiver.url)
        stack.put("a.mp3")
        until(lambda: receiver.posts)
        ended(relay, number)
        receiver.free.set()
    assert sent_by_the_next(stack, Receiver()) == ["job.1"], "nobody has entered that it was taken"
    assert len(sink.of("a.mp3")) == 1, "it went back to its own line"


def sent_by_the_next(stack: Stack, receiver: Receiver) -> list[str]:
    """Return the ids of the replies that another relay sends."""
    with receiver.open():
        stack.relay(STEMS_REPLY_SINK=receiver.url)
        until(lambda: receiver.posts and stack.idle() and not list(stack.redis.scan_iter("stems:job:r*")))
    return [post.headers["ce-id"] for post in receiver.posts]


def test_without_a_receiver_no_reply_is_kept(stack: Stack, sink: Sink) -> None:
    answers(sink, "a.mp3")
    stack.relay()
    stack.put("a.mp3")
    until(lambda: sink.of("a.mp3") and stack.idle())
    assert stack.redis.exists(naming.REPLIES) == 0
