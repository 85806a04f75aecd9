"""Who asked for it is called when a song ends: signed, again until he takes it, and never inside our own network."""

import base64
import hashlib
import hmac
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stems import naming
from stems.contract import TYPE_FAILED, TYPE_SEPARATED
from tests.cli import alone, run
from tests.programs import need
from tests.receiver import Post, Receiver
from tests.relay_stack import RELAY, Reply, Sink, Stack, ended
from tests.servers import until

SECRET = b"a secret of thirty-two bytes...."
OTHER = b"the one before, now to be replaced"
HERE = {"STEMS_CALLBACK_NETWORKS": "127.0.0.0/8 ::1/128"}
RECORD = {"songhash": "0" * 64, "name": "ein Länd'ler"}
EVENT = {
    "ce-specversion": "1.0",
    "ce-id": "job.1",
    "ce-source": "/stems/queue",
    "ce-type": TYPE_SEPARATED,
    "ce-subject": "a%20s%C3%B6ng.mp3",
    "content-type": "application/json",
}


@pytest.fixture(autouse=True)
def separated(sink: Sink) -> None:
    """Whatever is put here is separated."""
    for key in ("a söng.mp3", "b.mp3", "c.mp3"):
        sink.script[key] = [Reply(200, json.dumps(RECORD), EVENT)]


def whsec(*secrets: bytes) -> str:
    return " ".join("whsec_" + base64.b64encode(secret).decode() for secret in secrets)


def signed(post: Post, secret: bytes) -> bool:
    """Verify as the specification of Standard Webhooks tells receivers to."""
    content = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    expected = "v1," + base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
    return expected in post.headers["webhook-signature"].split(" ")


def nothing_waits(stack: Stack) -> bool:
    return stack.idle() and not stack.redis.zcard(naming.CALLBACKS) and not list(stack.redis.scan_iter("stems:job:w*"))


def dead(stack: Stack, count: int = 1) -> list[Mapping[str, str]]:
    until(lambda: stack.redis.zcard(naming.DEAD_CALLBACKS) == count)
    return [stack.redis.hgetall(naming.job_key(job)) for job in stack.redis.zrange(naming.DEAD_CALLBACKS, 0, -1)]


def test_a_song_and_the_deployment_each_have_a_receiver(stack: Stack, sink: Sink) -> None:
    with Receiver().open() as mine, Receiver().open() as all_songs:
        stack.relay(STEMS_CALLBACK=f"{all_songs.url}/all?x=1", STEMS_CALLBACK_SECRET=whsec(SECRET, OTHER), **HERE)
        etag = stack.put("a söng.mp3", callback=f"{mine.url}/hook?token=t%C3%A4st")
        stack.put("b.mp3")
        until(lambda: mine.posts and len(all_songs.posts) == 2 and nothing_waits(stack))
    (post,) = mine.posts
    assert post.path == "/hook?token=t%C3%A4st"
    assert post.headers["content-type"] == "application/cloudevents+json"
    assert post.headers["host"] == f"127.0.0.1:{mine.port}"
    assert post.headers["stems-state"] == "done"
    event = json.loads(post.body)
    assert event["data"] == RECORD
    named = {"id": "job.1", "type": TYPE_SEPARATED, "subject": "a söng.mp3", "specversion": "1.0"}
    assert {name: event[name] for name in named} == named
    assert abs(int(post.headers["webhook-timestamp"]) - time.time()) < 60
    assert signed(post, SECRET)
    assert signed(post, OTHER)
    assert not signed(post, b"somebody else's, of the same size")
    assert {each.path for each in all_songs.posts} == {"/all?x=1"}
    assert all(signed(each, SECRET) for each in all_songs.posts)
    assert len({each.headers["webhook-id"] for each in (post, *all_songs.posts)}) == 3
    assert stack.job("a söng.mp3", etag)["state"] == "done"
    (delivery,) = sink.of("a söng.mp3")
    sent = {name.lower(): value for name, value in delivery.headers.items()}
    assert post.headers["traceparent"].split("-")[1] == sent["traceparent"].split("-")[1], "one trace"


def test_songs_have_a_secret_of_their_own_where_one_is_set(stack: Stack) -> None:
    with Receiver().open() as mine, Receiver().open() as all_songs:
        secrets = {"STEMS_CALLBACK_SECRET": whsec(SECRET), "STEMS_CALLBACK_SONG_SECRET": whsec(OTHER)}
        stack.relay(STEMS_CALLBACK=all_songs.url, **secrets, **HERE)
        stack.put("b.mp3", callback=mine.url, callback_data='{"type": "forged"}')
        until(lambda: mine.posts and all_songs.posts)
    assert signed(mine.posts[0], OTHER)
    assert not signed(mine.posts[0], SECRET)
    assert signed(all_songs.posts[0], SECRET)


def test_a_dead_letter_calls_back_too(stack: Stack, sink: Sink) -> None:
    sink.script["a.txt"] = [Reply(422, json.dumps({"detail": "no audio in it"}))]
    with Receiver().open() as mine, Receiver().open() as all_songs:
        stack.relay(STEMS_CALLBACK=all_songs.url, **HERE)
        etag = stack.put("a.txt", callback=mine.url)
        until(lambda: mine.posts and all_songs.posts)
        until(lambda: stack.tags("a.txt").get("state") == "failed")
    (post,) = mine.posts
    assert post.headers["stems-state"] == "failed"
    assert "webhook-signature" not in post.headers, "there is no secret"
    event = json.loads(post.body)
    assert event["type"] == TYPE_FAILED
    assert event["data"] == {"bucket": "queue", "key": "a.txt", "etag": etag, "reason": "no audio in it"}
    assert all_songs.posts[0].body == post.body


def test_data_of_the_caller_is_posted_as_it_is(stack: Stack, sink: Sink) -> None:
    sink.script["a.txt"] = [Reply(422)]
    data = '{"mp3": "data/short.mp3",  "n": [1, 2.50, null], "t": "\\u00e4"}'
    with Receiver().open() as receiver:
        stack.relay(STEMS_CALLBACK_SECRET=whsec(SECRET), **HERE)
        stack.put("b.mp3", callback=receiver.url, callback_data=data)
        until(lambda: len(receiver.posts) == 1)
        stack.put("a.txt", callback=receiver.url, callback_data=data)
        until(lambda: len(receiver.posts) == 2)
    assert [post.headers["stems-state"] for post in receiver.posts] == ["done", "failed"]
    for post in receiver.posts:
        assert (post.body, post.headers["content-type"]) == (data.encode(), "application/json")
        assert signed(post, SECRET)


def test_a_sink_that_answers_no_event_still_ends_songs(stack: Stack, sink: Sink) -> None:
    sink.script["b.mp3"] = [Reply(204)]
    sink.script["c.mp3"] = [Reply(200, "{", {**EVENT, "ce-time": "never"})]
    with Receiver().open() as receiver:
        stack.relay(STEMS_CALLBACK=receiver.url)
        etags = {key: stack.put(key) for key in ("b.mp3", "c.mp3")}
        until(lambda: len(receiver.posts) == 2)
    found = [json.loads(post.body)["data"] for post in receiver.posts]
    assert sorted(found, key=str) == [{"bucket": "queue", "key": key, "etag": etags[key]} for key in etags]


def test_what_is_removed_before_its_turn_has_not_ended(stack: Stack, sink: Sink) -> None:
    sink.script["gone.mp3"] = [Reply(200, "{}", {**EVENT, "ce-type": "dev.stems.upload.gone"})]
    with Receiver().open() as receiver:
        stack.relay(STEMS_CALLBACK=receiver.url, STEMS_MAX_IN_FLIGHT="1", **HERE)
        stack.put("gone.mp3", callback=receiver.url)
        until(lambda: sink.of("gone.mp3") and stack.idle())
        stack.put("b.mp3")
        until(lambda: receiver.posts)
    assert [json.loads(post.body)["subject"] for post in receiver.posts] == ["a söng.mp3"], (
        "what the sink says of b.mp3"
    )


def test_a_receiver_that_fails_is_called_again_and_holds_up_nobody(stack: Stack, sink: Sink) -> None:
    keys = [f"song {number}.mp3" for number in range(12)]
    with Receiver(500, 404, 429, 409, 503, 408, 202).open() as fails, Receiver().open() as hangs:
        hangs.free.clear()
        stack.relay(
            STEMS_CALLBACK=fails.url, STEMS_CALLBACK_TIMEOUT_S="20", STEMS_CALLBACK_SECRET=whsec(SECRET), **HERE
        )
        stack.put("b.mp3")
        until(lambda: len(fails.posts) == 7 and nothing_waits(stack))
        ids = {post.headers["webhook-id"] for post in fails.posts}
        assert len(ids) == 1
        assert all(signed(post, SECRET) for post in fails.posts)
        for key in keys:
            stack.put(key, callback=hangs.url)
        until(lambda: len(sink.deliveries) == 13 and stack.idle())
        until(lambda: len(fails.posts) == 7 + 12)
        assert 1 <= len(hangs.posts) <= 8, "one receiver does not take all the room"
        hangs.free.set()
        until(lambda: len(hangs.posts) == 12 and nothing_waits(stack))
    assert stack.redis.hgetall(naming.ATTEMPTS) == {}


def test_a_receiver_that_never_takes_it_is_given_up_in_the_end(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone(monkeypatch, tmp_path)
    for name, value in stack.environ.items():
        monkeypatch.setenv(name, value)
    with Receiver(500).open() as receiver:
        stack.relay(STEMS_CALLBACK_ATTEMPTS="3", **HERE)
        etag = stack.put("b.mp3", callback=f"{receiver.url}/?token=secret")
        (letter,) = dead(stack)
        assert len(receiver.posts) == 3
        assert letter["error"] == f"gave up after 3 attempts; the last one: 127.0.0.1:{receiver.port} answers 500"
        assert stack.job("b.mp3", etag)["state"] == "done"
        assert stack.tags("b.mp3") == {}, "nothing is said of the song"
        listed = run("dead", "list").stdout
        assert "callback about b.mp3" in listed
        receiver.script[:] = [200]
        assert "back in line" in run("dead", "retry", "--all").stdout
        until(lambda: len(receiver.posts) == 4 and nothing_waits(stack))
    assert "token=secret" not in (stack.folder / "relay.log").read_text()


def test_dead_callbacks_do_not_pile_up(stack: Stack) -> None:
    program = f"from stems_relay import inbox; inbox._DEAD_CALLBACKS = 2; {RELAY}"
    with Receiver(410).open() as receiver:
        stack.relay(program, STEMS_MAX_IN_FLIGHT="1", **HERE)
        for number, key in enumerate(["a söng.mp3", "b.mp3", "c.mp3"], start=1):
            stack.put(key, callback=receiver.url)
            until(lambda number=number: len(receiver.posts) == number)  # type: ignore[misc]
            dead(stack, min(number, 2))
    until(lambda: len(list(stack.redis.scan_iter("stems:job:w*"))) == 2)
    assert [letter["key"] for letter in dead(stack, 2)] == ["b.mp3", "c.mp3"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_callback_outlives_the_relay_that_makes_it(stack: Stack, sink: Sink, number: int) -> None:
    receiver = Receiver()
    receiver.free.clear()
    with receiver.open():
        relay = stack.relay(**HERE)
        stack.put("b.mp3", callback=receiver.url)
        until(lambda: receiver.posts)
        ended(relay, number)
        receiver.free.set()
        stack.relay(**HERE)
        until(lambda: len(receiver.posts) == 2 and nothing_waits(stack))
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1
    assert len(sink.of("b.mp3")) == 1


def test_the_sweep_knows_the_receiver_too(stack: Stack) -> None:
    with Receiver().open() as receiver:
        stack.put("b.mp3", callback=f"{receiver.url}/?a=1&b=%2B<2>", callback_data='{"a": "<&>\'"}')
        until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 1)
        stack.redis.flushall()
        stack.relay(f"from stems_relay import sweep; sweep.GRACE_MS = -3_600_000; {RELAY}", **HERE)
        until(lambda: receiver.posts)
    assert receiver.posts[0].path == "/?a=1&b=%2B%3C2%3E"
    assert receiver.posts[0].body == b'{"a": "<&>\'"}'


def test_our_own_network_is_never_called(stack: Stack) -> None:
    with Receiver().open() as receiver:
        hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "0x7f.1"]
        hosts += ["2130706433", "0.0.0.0", "[::]", "[::1]", "127.1"]
        stack.relay(STEMS_CALLBACK_NETWORKS="10.0.0.0/8")
        for number, host in enumerate(hosts):
            stack.put(f"{number}.mp3", callback=f"http://{host}:{receiver.port}/")
        letters = dead(stack, len(hosts))
        assert receiver.posts == []
    assert all("not an address that may be called" in letter["error"] for letter in letters), letters
    assert all(letter["attempts"] == "1" for letter in letters), "nothing changes by trying again"


def test_a_redirect_is_not_followed(stack: Stack) -> None:
    with Receiver().open() as inner, Receiver(307, headers={"location": f"{inner.url}/"}).open() as outer:
        stack.relay(**HERE)
        stack.put("b.mp3", callback=outer.url)
        (letter,) = dead(stack)
        assert (len(outer.posts), len(inner.posts)) == (1, 0)
    assert letter["error"].endswith("answers 307, and no redirect is followed")


@contextmanager
def endless() -> Iterator[tuple[int, list[int]]]:
    """Serve answers whose head never ends, as fast as they are read; yield the port and what was written of each."""
    written: list[int] = []

    def answer(client: socket.socket) -> None:
        written.append(0)
        number = len(written) - 1
        with client:
            client.settimeout(20)
            try:
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    client.sendall(b"x-more: " + b"x" * 60_000 + b"\r\n")
                    written[number] += 60_000
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(client,), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], written
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_answer_without_end_is_not_read(stack: Stack) -> None:
    with endless() as (port, written):
        stack.relay(STEMS_CALLBACK_ATTEMPTS="2", **HERE)
        stack.put("b.mp3", callback=f"http://127.0.0.1:{port}/")
        (letter,) = dead(stack)
    assert "cannot be called" in letter["error"]
    assert len(written) == 2
    assert max(written) < 20_000_000, "what the sockets hold"


def test_an_answer_that_does_not_come_comes_to_an_end(stack: Stack) -> None:
    with Receiver().open() as receiver:
        receiver.free.clear()
        stack.relay(STEMS_CALLBACK_ATTEMPTS="2", STEMS_CALLBACK_TIMEOUT_S="0.3", **HERE)
        stack.put("b.mp3", callback=receiver.url)
        (letter,) = dead(stack)
        receiver.free.set()
    assert letter["error"].endswith(f"no answer from 127.0.0.1:{receiver.port} in time")
    assert len(receiver.posts) == 2


def test_names_that_do_not_exist_are_tried_again(stack: Stack) -> None:
    stack.relay(STEMS_CALLBACK_ATTEMPTS="2", **HERE)
    stack.put("b.mp3", callback="http://nobody.invalid/")
    stack.put("c.mp3", callback=f"http://{'a' * 70}.invalid/")
    for letter in dead(stack, 2):
        assert letter["error"].startswith("gave up after 2 attempts")
        assert "cannot be called" in letter["error"]


def test_tls_is_spoken_with_the_name_not_with_the_address(stack: Stack, tmp_path: Path) -> None:
    key, certificate, chain = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "chain.pem"
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([need("openssl"), *make], check=True, capture_output=True)
    chain.write_bytes(certificate.read_bytes() + key.read_bytes())
    with Receiver(chain=chain).open() as receiver:
        stack.relay(STEMS_CALLBACK_ATTEMPTS="1", SSL_CERT_FILE=str(certificate), **HERE)
        stack.put("b.mp3", callback=f"https://localhost:{receiver.port}/")
        until(lambda: receiver.posts)
        stack.put("c.mp3", callback=f"https://127.0.0.1:{receiver.port}/")
        (letter,) = dead(stack)
        assert len(receiver.posts) == 1
    assert receiver.posts[0].headers["host"] == f"localhost:{receiver.port}"
    assert "certificate" in letter["error"].lower()


def test_a_wrong_url_is_the_songs_own_fault(stack: Stack, sink: Sink) -> None:
    sink.script["b.mp3"] = [Reply(422, json.dumps({"detail": "callback=ftp://x: not an http:// or https:// address"}))]
    with Receiver().open() as receiver:
        stack.relay(STEMS_CALLBACK=receiver.url, **HERE)
        stack.put("b.mp3", callback="ftp://x")
        until(lambda: receiver.posts and stack.idle())
    data: Mapping[str, Any] = json.loads(receiver.posts[0].body)["data"]
    assert data["reason"].startswith("callback=ftp://x")
