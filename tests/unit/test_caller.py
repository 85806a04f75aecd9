"""Where a callback goes: the name is resolved once, and whoever changes it meanwhile changes nothing."""

import asyncio
import json
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from stems import address
from stems.config import Settings
from stems.contract import Upload
from stems.reply import Reply
from stems_relay.callback import Callback, News
from stems_relay.caller import Caller, signature
from stems_relay.sink import Answer, Verdict
from tests.relay_stack import RECORD

PUBLIC, INNER = "93.184.216.34", "127.0.0.1"
SEEN = (PUBLIC, INNER, "::ffff:169.254.169.254", "10.1.2.3")


def callback(url: str, own: bool = False) -> Callback:
    return Callback("w1song", "a.mp3", url, own, "done", "application/json", "{}", "queue", "1.2")


class Network:
    """Answers for the name server with `found`, one list after the other, and for whoever is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: list[str]) -> None:
        self.found, self.asked = list(found), 0
        self.requests: list[httpx2.Request] = []
        self.unreachable: set[str] = set()
        monkeypatch.setattr(socket, "getaddrinfo", self._look)

    def _look(self, host: str, port: int, **more: Any) -> list[Any]:
        self.asked += 1
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in at], 1, 6, "", (at, port)) for at in self.found.pop(0)]

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host in self.unreachable:
            raise httpx2.ConnectError("unreachable")
        self.requests.append(request)
        return httpx2.Response(200)

    def calls(self, urls: Iterable[str], own: bool = False, **settings: str) -> list[Answer]:
        async def work() -> list[Answer]:
            caller = Caller(Settings.from_env(settings), 4)
            await caller.close()
            caller._transport = httpx2.MockTransport(self._answer)  # type: ignore[assignment]
            return [await caller.deliver(callback(url, own)) for url in urls]

        return asyncio.run(work())

    def call(self, url: str, own: bool = False, **settings: str) -> Answer:
        return self.calls([url], own, **settings)[0]


def test_the_signature_is_that_of_the_libraries_of_standard_webhooks() -> None:
    """Theirs test with these very values."""
    settings = Settings.from_env({"STEMS_CALLBACK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    made = signature(settings.callback_secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_address_that_was_looked_at_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, [PUBLIC], [INNER])
    assert network.call("https://rebinds.example:8443/x").verdict is Verdict.DONE
    (request,) = network.requests
    assert str(request.url) == f"https://{PUBLIC}:8443/x"
    assert request.headers["host"] == "rebinds.example:8443"
    assert request.extensions["sni_hostname"] == "rebinds.example"
    assert network.asked == 1


def test_of_several_addresses_those_that_may_be_called_are(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, [INNER, "2606:4700::1111", "::1", PUBLIC])
    network.unreachable = {"2606:4700::1111"}
    assert network.call("http://both.example/").verdict is Verdict.DONE
    assert [request.url.host for request in network.requests] == [PUBLIC]


def test_a_name_that_leads_inside_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, ["169.254.169.254", "fe80::1%eth0"])
    answer = network.call("http://inside.example/latest/meta-data")
    assert (answer.verdict, network.requests) == (Verdict.DEAD, [])
    assert "inside.example is at 169.254.169.254, fe80::1" in answer.reason
    assert "meta-data" not in answer.reason


def test_the_operators_own_receiver_may_be_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch, ["10.0.0.7"], ["10.0.0.7"])
    assert network.call("http://hooks.stems.svc/", own=True).verdict is Verdict.DONE
    assert network.call("http://hooks.stems.svc/").verdict is Verdict.DEAD, "for others it is not"


@pytest.mark.parametrize(
    "fail",
    [lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-2, "Name or service not known"))],
)
def test_a_name_server_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch, fail: Callable[..., Any]) -> None:
    network = Network(monkeypatch)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert network.call("http://x.example/", STEMS_CALLBACK_TIMEOUT_S="0.2").verdict is Verdict.RETRY


@pytest.mark.parametrize("seed", range(4))
def test_no_url_that_an_upload_may_have_breaks_the_relay(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Each is called at its public address, or answered for; the network below sees no other address."""
    dice, network = random.Random(seed), Network(monkeypatch)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", (dice.choice(SEEN), port))])
    parts = ["http://", "https://", "a", "xn--", "xn--a", ".", "-", "_", "[::1]", "[", "]", ":", "80", "0", "%", "%zz"]
    parts += [
        "/",
        "//",
        "?",
        "&",
        "=",
        "@",
        "..",
        "127.0.0.1",
        "0x7f",
        "localhost",
        "*",
        "|",
        "^",
        "{",
        "<",
        "'",
        "~",
        "%00",
    ]
    made = (dice.choice(parts[:2]) + "".join(dice.choices(parts, k=dice.randint(1, 6))) for _ in range(3000))
    urls = [url for url in made if may_stand(url)]
    assert len(urls) > 100
    for url, answer in zip(urls, network.calls(urls), strict=True):
        assert answer.verdict in {Verdict.DONE, Verdict.DEAD}, (url, answer)
    assert {request.url.host for request in network.requests} == {PUBLIC}


def may_stand(url: str) -> bool:
    with suppress(ValueError):
        return bool(address.callback_url(url))
    return False


def test_whatever_ends_a_song_something_is_said_of_it() -> None:
    upload = Upload.from_record({**RECORD, "awsRegion": 5, "responseElements": 7})
    news = News(Settings.from_env({"STEMS_CALLBACK": "http://x.example/"}))
    said = news.of_dead("d1", upload, "no event")
    assert [json.loads(json.dumps(each.record))["state"] for each in said if isinstance(each, Callback)] == ["failed"]
    odd = Answer(Verdict.DONE, headers={"content-type": "application/cloudevents+json"}, body=b"[" * 100_000)
    (made,) = news.of_done("d1", upload, odd, gone=False)
    assert not isinstance(made, Reply)
    assert json.loads(made.body)["type"] == "dev.stems.track.separated"
