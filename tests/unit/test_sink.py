"""What each answer of a sink means for the song: the contract of functions and relay."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from stems.contract import TYPE_GONE, TYPE_SEPARATED, Upload
from stems_relay.sink import Sink, Verdict, judge


def answer(status: int, body: str | bytes = "", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, headers=named, content=body)


@pytest.mark.parametrize("status", [*range(200, 209), 226, 299])
def test_every_2xx_is_done(status: int) -> None:
    assert judge(answer(status)).verdict is Verdict.DONE
    assert judge(answer(status, retry_after="5")).verdict is Verdict.DONE
    assert judge(answer(status, ce_type=TYPE_SEPARATED)).verdict is Verdict.DONE
    assert judge(answer(status, ce_type=TYPE_GONE)).verdict is Verdict.GONE


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
    assert (judge(answer(status)).verdict, judge(answer(status)).retry_after_s) == (plain, None)
    asked = judge(answer(status, retry_after="7"))
    assert (asked.verdict, asked.retry_after_s) == (with_retry_after, 7.0)
    assert judge(answer(status, ce_type=TYPE_GONE)).verdict is plain, "only a 2xx answers with an event"


@pytest.mark.parametrize(
    "status", [300, 301, 302, 307, 308] + [s for s in range(400, 500) if s not in {404, 408, 409, 429}]
)
def test_everything_else_never_succeeds(status: int) -> None:
    assert judge(answer(status)).verdict is Verdict.DEAD
    assert judge(answer(status, retry_after="1")).verdict is Verdict.DEAD


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "²"])
def test_a_retry_after_that_is_no_number_of_seconds_counts_as_absent(text: str) -> None:
    response = httpx2.Response(503, headers=[(b"retry-after", text.encode())])
    assert judge(response).verdict is Verdict.RETRY


def test_a_retry_after_without_end_is_still_a_number() -> None:
    assert judge(answer(503, retry_after="9" * 400)).retry_after_s == float("inf")  # the inbox bounds it
    assert judge(answer(503, retry_after="0")).verdict is Verdict.UNABLE


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
    found = judge(answer(422, body)).reason
    found.encode()
    assert found.startswith(reason)
    assert len(found) <= 505
    assert "\n" not in found


RECORD: dict[str, Any] = {
    "eventName": "s3:ObjectCreated:Put",
    "eventTime": "2026-11-22T05:00:00.000Z",
    "s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3", "eTag": "e"}},
}


def deliver(record: Mapping[str, Any], transport: httpx2.AsyncBaseTransport, secret: str = "") -> tuple[Verdict, str]:
    async def post() -> tuple[Verdict, str]:
        sink = Sink("http://sink", 1, 1, secret)
        await sink._client.aclose()
        sink._client = httpx2.AsyncClient(transport=transport, timeout=1)
        found = await sink.deliver(Upload.from_record(record))
        await sink.close()
        return found.verdict, found.reason

    return asyncio.run(post())


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (httpx2.ConnectError("refused"), Verdict.AWAY),
        (httpx2.ConnectTimeout("no route"), Verdict.AWAY),
        (httpx2.PoolTimeout("full"), Verdict.AWAY),
        (httpx2.ReadTimeout("slow"), Verdict.RETRY),
        (httpx2.WriteTimeout("slow"), Verdict.RETRY),
        (httpx2.ReadError("reset"), Verdict.RETRY),
        (httpx2.RemoteProtocolError("no HTTP"), Verdict.RETRY),
        (httpx2.DecodingError("bad gzip"), Verdict.RETRY),
    ],
)
def test_what_the_network_does_is_a_verdict(error: Exception, verdict: Verdict) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error

    found, reason = deliver(RECORD, httpx2.MockTransport(fail))
    assert found is verdict
    assert "http://sink" in reason


def test_an_answer_that_never_ends_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stems_relay.sink._CONNECT_S", -0.45)  # the whole may take 0.1 s

    async def never(request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(60)
        return answer(200)

    assert deliver(RECORD, httpx2.MockTransport(never)) == (Verdict.RETRY, "no answer from http://sink in time")


@pytest.mark.parametrize(
    "wrong",
    [
        {"awsRegion": 5},
        {"eventSource": {}, "awsRegion": ["x"]},
    ],
)
def test_a_record_that_makes_no_event_is_a_dead_letter(wrong: Mapping[str, Any]) -> None:
    verdict, reason = deliver(RECORD | dict(wrong), httpx2.MockTransport(lambda request: answer(200)))
    assert verdict is Verdict.DEAD
    assert "no event" in reason


def test_the_event_is_posted_in_binary_mode() -> None:
    seen: list[httpx2.Request] = []

    def take(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return answer(204)

    assert deliver(RECORD, httpx2.MockTransport(take)) == (Verdict.DONE, "")
    (request,) = seen
    assert request.method == "POST"
    assert request.headers["ce-specversion"] == "1.0"
    assert request.headers["ce-subject"] == "a.mp3"
    assert datetime.fromisoformat(request.headers["ce-time"]) == datetime(2026, 11, 22, 5, tzinfo=UTC)
    assert json.loads(request.content) == RECORD


@pytest.mark.parametrize(("secret", "verdict"), [("", Verdict.DEAD), ("a secret of sixteen", Verdict.AWAY)])
def test_a_sink_that_knows_another_secret_costs_no_song(secret: str, verdict: Verdict) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        assert request.headers.get("stems-secret", "") == secret
        return httpx2.Response(401, json={"detail": "the header stems-secret must be …"})

    assert deliver(RECORD, httpx2.MockTransport(refuse), secret)[0] is verdict
