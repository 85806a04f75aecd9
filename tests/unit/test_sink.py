"""What each answer of a sink means for the song: the contract of functions and relay."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from stems.contract import TYPE_GONE, TYPE_SEPARATED, Upload
from stems_relay.sink import Answer, Sink, Verdict, judge
from tests.servers import free_port


def answer(status: int, body: str | bytes = "", **headers: str) -> Answer:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return judge(status, named, body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize("status", [*range(200, 209), 226, 299])
def test_every_2xx_is_done(status: int) -> None:
    assert answer(status).verdict is Verdict.DONE
    assert answer(status, retry_after="5").verdict is Verdict.DONE
    assert answer(status, ce_type=TYPE_SEPARATED).verdict is Verdict.DONE
    assert answer(status, ce_type=TYPE_GONE).verdict is Verdict.GONE


@pytest.mark.parametrize(
    ("status", "plain", "with_retry_after"),
    [
        (404, Verdict.AWAY, Verdict.AWAY),
        (429, Verdict.AWAY, Verdict.AWAY),
        (409, Verdict.BUSY, Verdict.BUSY),
        (503, Verdict.RETRY, Verdict.UNABLE),
        *((status, Verdict.RETRY, Verdict.RETRY) for status in (408, 500, 501, 502, 504, 505, 507, 511, 599)),
    ],
)
def test_what_is_tried_again(status: int, plain: Verdict, with_retry_after: Verdict) -> None:
    assert (answer(status).verdict, answer(status).retry_after_s) == (plain, None)
    asked = answer(status, retry_after="7")
    assert (asked.verdict, asked.retry_after_s) == (with_retry_after, 7.0)
    assert answer(status, ce_type=TYPE_GONE).verdict is plain, "only a 2xx answers with an event"


@pytest.mark.parametrize(
    "status", [300, 301, 302, 307, 308] + [s for s in range(400, 500) if s not in {404, 408, 409, 429}]
)
def test_everything_else_never_succeeds(status: int) -> None:
    assert answer(status).verdict is Verdict.DEAD
    assert answer(status, retry_after="1").verdict is Verdict.DEAD


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "²"])
def test_a_retry_after_that_is_no_number_of_seconds_counts_as_absent(text: str) -> None:
    assert answer(503, retry_after=text).verdict is Verdict.RETRY


def test_a_retry_after_without_end_is_still_a_number() -> None:
    assert answer(503, retry_after="9" * 400).retry_after_s == float("inf")  # the inbox bounds it
    assert answer(503, retry_after="0").verdict is Verdict.UNABLE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps({"title": "BadAudio", "detail": "the song is empty"}), "the song is empty"),
        (json.dumps({"detail": "two\n  lines"}), "two lines"),
        (json.dumps({"detail": None}), '422: {"detail": null}'),
        (json.dumps({"detail": "\ud800!"}), "?!"),
        (json.dumps({"title": "no detail"}), '422: {"title": "no detail"}'),
        ("[1]", "422: [1]"),
        ("9" * 5000, "422: " + "9" * 500),
        ("[" * 100_000, "422: " + "[" * 500),
        ("  <h1>Bad\n Gateway</h1> ", "422: <h1>Bad Gateway</h1>"),
        (b"\xff\xfe", "422: "),
        ("", "422: Unprocessable"),
    ],
)
def test_reasons_are_one_line_that_redis_and_people_can_read(body: str | bytes, reason: str) -> None:
    found = answer(422, body).reason
    found.encode()
    assert found.startswith(reason)
    assert len(found) <= 505
    assert "\n" not in found


RECORD: dict[str, Any] = {
    "eventName": "s3:ObjectCreated:Put",
    "eventTime": "2026-11-22T05:00:00.000Z",
    "s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3", "eTag": "e"}},
}


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def deliver(
    record: Mapping[str, Any], serve: Serve, timeout_s: float = 5, secret: str = "", user: str = ""
) -> tuple[Verdict, str]:
    """Deliver to a server of which `serve` is the whole mind; `user`: what stands in its address before the host."""

    async def post() -> tuple[Verdict, str]:
        served: set[asyncio.Task[None] | None] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.add(asyncio.current_task())
            await serve(reader, writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            found = await deliver_to(
                f"http://{user}127.0.0.1:{server.sockets[0].getsockname()[1]}", record, timeout_s, secret
            )
            await asyncio.gather(*(task for task in served if task))
        return found

    return asyncio.run(post())


async def deliver_to(
    url: str, record: Mapping[str, Any], timeout_s: float = 5, secret: str = ""
) -> tuple[Verdict, str]:
    sink = Sink((url,), timeout_s, 1, secret)
    found = await sink.deliver(Upload.from_record(record))
    await sink.close()
    return found.verdict, found.reason.replace(url, "SINK")


async def read(reader: asyncio.StreamReader) -> tuple[Mapping[str, str], bytes]:
    """Read a request; return its headers, names in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
    return headers, await reader.readexactly(int(headers["content-length"]))


def saying(said: bytes) -> Serve:
    """Return a server that reads the request, says this and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(said)

    return serve


NO_ANSWERS = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-len",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nno",
    "no HTTP": b"220 mail.example ESMTP\r\n\r\n",
    "no gzip": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-encoding: gzip\r\n\r\nnone",
}


@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_answer_that_is_none_is_tried_again(said: bytes) -> None:
    verdict, reason = deliver(RECORD, saying(said))
    assert verdict is Verdict.RETRY
    assert reason.startswith("the connection to SINK broke off: ")


@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_no_reason_holds_a_secret(said: bytes) -> None:
    """Whoever may look at the queue sees it. Neither the sink's secret nor what stands in K_SINK before an @."""
    _, reason = deliver(RECORD, saying(said), secret="a-secret-of-tests", user="user:a-password@")
    for secret in ("a-secret-of-tests", "a-password", base64.b64encode(b"user:a-password").decode()):
        assert secret not in reason
    assert reason.startswith("the connection to http://…@127.0.0.1:")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"])
def test_an_answer_that_never_ends_comes_to_an_end(head: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(head)
        while not reader.at_eof():
            writer.write(b"." if head else b"")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(), 0.05)

    assert deliver(RECORD, drip, 0.3) == (Verdict.RETRY, "no answer from SINK in time")


def test_nobody_there_is_no_attempt() -> None:
    port = free_port()
    verdict, reason = asyncio.run(deliver_to(f"http://127.0.0.1:{port}", RECORD))
    assert verdict is Verdict.AWAY
    assert reason.startswith("SINK cannot be reached")
    verdict, _ = asyncio.run(deliver_to("http://no-such-host.invalid", RECORD))
    assert verdict is Verdict.AWAY


def test_a_host_that_lets_nobody_in_is_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stems_relay.sink._CONNECT_S", 0.2)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for caller in (first, second):  # nobody accepts: the third is left standing
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        verdict, reason = asyncio.run(deliver_to(f"http://127.0.0.1:{full.getsockname()[1]}", RECORD))
    assert verdict is Verdict.AWAY
    assert reason.startswith("SINK cannot be reached")


@pytest.mark.parametrize(
    "wrong",
    [
        {"awsRegion": 5},
        {"eventSource": {}, "awsRegion": ["x"]},
    ],
)
def test_a_record_that_makes_no_event_is_a_dead_letter(wrong: Mapping[str, Any]) -> None:
    verdict, reason = deliver(RECORD | dict(wrong), saying(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert verdict is Verdict.DEAD
    assert "no event" in reason


def test_the_event_is_posted_in_binary_mode() -> None:
    seen: list[tuple[Mapping[str, str], bytes]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read(reader))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert deliver(RECORD, take) == (Verdict.DONE, "")
    ((headers, body),) = seen
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-subject"] == "a.mp3"
    assert datetime.fromisoformat(headers["ce-time"]) == datetime(2026, 11, 22, 5, tzinfo=UTC)
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == RECORD


def test_a_redirect_is_not_followed() -> None:
    verdict, reason = deliver(RECORD, saying(b"HTTP/1.1 307 Go\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"))
    assert (verdict, reason) == (Verdict.DEAD, "307: Temporary Redirect")


@pytest.mark.parametrize("secret", ["", "a-secret-of-some-length"])
def test_a_sink_that_knows_another_secret_costs_no_song(secret: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read(reader)
        assert headers.get("stems-secret", "") == secret
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")

    assert deliver(RECORD, refuse, secret=secret)[0] is Verdict.AWAY
