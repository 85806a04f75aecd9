"""Delivery of one CloudEvent to a sink, and what its answer means for the song.

The contract is Knative's (https://github.com/knative/specs/blob/main/specs/eventing/data-plane.md): 2xx is done; 404,
408, 409, 429, 5xx and no answer are tried again; everything else never succeeds.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from http.client import responses

import aiohttp

from stems import __version__, address, trace
from stems.contract import SECRET_HEADER, TYPE_DIVIDED, TYPE_GONE, Upload
from stems.division import Wanted
from stems.reply import Reply

_REASON_LIMIT = 500
_CONNECT_S = 5.0
_KEEP_ALIVE_S = 5.0
_TIMING = re.compile(r"([\w-]+)\s*;\s*dur=(\d+(?:\.\d+)?)")


class Verdict(Enum):
    """What an answer means. BUSY, AWAY and UNABLE: the song was not tried, which does not count as an attempt."""

    DONE = "done"
    DIVIDED = "divided"  # the song goes on in parts
    GONE = "gone"  # the upload was removed or overwritten before its turn
    RETRY = "retry"  # this song failed and may succeed later
    BUSY = "busy"  # this song is being separated by somebody else
    AWAY = "away"  # nobody is there to take songs now
    UNABLE = "unable"  # the same by the sink's own word, unless it says so of this song alone
    DEAD = "dead"  # this song never succeeds


_SAID = {TYPE_GONE: Verdict.GONE, TYPE_DIVIDED: Verdict.DIVIDED}


@dataclass(frozen=True, slots=True)
class Answer:
    """The sink's answer. `retry_after_s`: how long it asks to wait, if it does. `timings_s`: its Server-Timing.

    `status` is that of HTTP, 0 without an answer.
    """

    verdict: Verdict
    reason: str = ""
    retry_after_s: float | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    status: int = 0


class Sink:
    """A client of one sink; one for the whole relay. It is made within the relay's loop.

    Of several addresses the one with the least to do gets the next event.
    """

    def __init__(self, urls: Sequence[str], timeout_s: float, max_in_flight: int, secret: str = "") -> None:
        self._in_work = dict.fromkeys(urls, 0)
        self._secret = {SECRET_HEADER: secret} if secret else {}
        self._client = aiohttp.ClientSession(
            # Connections idle for longer may be closed by the other side just as the next event goes out.
            connector=aiohttp.TCPConnector(limit=max_in_flight, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(timeout_s, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": f"stems/{__version__}"} | self._secret,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def deliver(self, message: Upload | Wanted | Reply, places: int = 0) -> Answer:
        """Post the event and read the answer; never raises, whatever the network or the sink does.

        A song may be divided among so many `places`; with none, nothing is said of it.
        """
        try:
            headers, body = message.to_http()
            if places and isinstance(message, Upload):
                headers["ce-stemsplaces"] = str(places)
            if place := trace.here():
                headers["traceparent"] = place.traceparent
        # The SDK raises errors of many types for a record that is no more than formally one.
        except Exception as error:
            return Answer(Verdict.DEAD, _line(f"no event can be made of this record: {error!r}"))
        url = min(self._in_work, key=self._in_work.__getitem__)
        self._in_work[url] += 1
        try:
            answer = await self._post(url, headers, body)
        finally:
            self._in_work[url] -= 1
        if answer.status == 401 and not isinstance(message, Reply):
            # It knows another secret than we, or knows one and we do not: no fault of the song.
            return replace(answer, verdict=Verdict.AWAY)
        return answer

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            async with self._client.post(url, data=body, headers=headers, allow_redirects=False) as response:
                found = judge(response.status, response.headers, await response.read())
                return replace(found, status=response.status)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Answer(Verdict.AWAY, f"{address.shown(url)} cannot be reached: {error}")
        except TimeoutError:
            return Answer(Verdict.RETRY, f"no answer from {address.shown(url)} in time")
        except aiohttp.InvalidURL:
            return Answer(Verdict.RETRY, f"{address.shown(url)} is no address that can be called")
        except (aiohttp.ClientError, OSError) as error:
            # As a whole, one of an answer shows the headers of the request, and with them our secrets.
            why = error.message if isinstance(error, aiohttp.ClientResponseError) else repr(error)
            return Answer(Verdict.RETRY, _line(f"the connection to {address.shown(url)} broke off: {why}"))
        except ValueError as error:
            return Answer(Verdict.DEAD, _line(f"no request can be made of this event: {error}"))


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return what a response means. `headers` finds its names in any case."""
    if 200 <= status < 300:
        verdict = _SAID.get(headers.get("ce-type", ""), Verdict.DONE)
        timings_s = {name: float(ms) / 1000 for name, ms in _TIMING.findall(headers.get("server-timing", ""))}
        return Answer(verdict, timings_s=timings_s, headers=headers, body=body)
    reason, retry_after_s = _reason(status, body), _retry_after_s(headers)
    if status == 409:
        return Answer(Verdict.BUSY, reason, retry_after_s)
    if status in {404, 429}:  # 404: no function behind the address (yet)
        return Answer(Verdict.AWAY, reason, retry_after_s)
    # With Retry-After it is the function's own word that MinIO or another part is away; a proxy's 503 has none and may
    # mean that the song killed its worker.
    if status == 503 and retry_after_s is not None:
        return Answer(Verdict.UNABLE, reason, retry_after_s)
    if status == 408 or status >= 500:
        return Answer(Verdict.RETRY, reason, retry_after_s)
    return Answer(Verdict.DEAD, reason)


def _reason(status: int, body: bytes) -> str:
    """Return the detail of a problem (RFC 9457), or the status and the beginning of the body."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = None
    if isinstance(detail, str) and detail.strip():
        return _line(detail)
    return f"{status}: {_line(body.decode(errors='replace')) or responses.get(status, '')}"


def _line(text: str) -> str:
    """Return the beginning of a text in one line that UTF-8 can hold: JSON may name characters that it cannot."""
    return " ".join(text[: 4 * _REASON_LIMIT].split())[:_REASON_LIMIT].encode(errors="replace").decode()


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After in its form of seconds; a date, which nobody here sends, counts as absent."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
