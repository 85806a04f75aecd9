"""Delivery of one CloudEvent to K_SINK, and what its answer means for the song.

The contract is Knative's (https://github.com/knative/specs/blob/main/specs/eventing/data-plane.md): 2xx is done; 404,
408, 409, 429, 5xx and no answer are tried again; everything else never succeeds.
"""

import json
from dataclasses import dataclass
from enum import Enum

import httpx2

from stems.contract import TYPE_GONE, Upload, to_http

_REASON_LIMIT = 500


class Verdict(Enum):
    """What an answer means. BUSY and AWAY: the song was not tried, which does not count as an attempt."""

    DONE = "done"
    GONE = "gone"  # the upload was removed or overwritten before its turn
    RETRY = "retry"  # this song failed and may succeed later
    BUSY = "busy"  # this song is being separated by somebody else
    AWAY = "away"  # nobody is there to take songs now
    DEAD = "dead"  # this song never succeeds


@dataclass(frozen=True, slots=True)
class Answer:
    """The sink's answer. `retry_after_s`: how long it asks to wait, if it does."""

    verdict: Verdict
    reason: str = ""
    retry_after_s: float | None = None


class Sink:
    """A client of the sink; one for the whole relay."""

    def __init__(self, url: str, timeout_s: float, max_in_flight: int) -> None:
        self._url = url
        # Connections idle for longer may be closed by the other side just as the next event goes out.
        limits = httpx2.Limits(max_connections=max_in_flight, keepalive_expiry=5)
        timeout = httpx2.Timeout(timeout_s, connect=5)
        self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def deliver(self, upload: Upload) -> Answer:
        """Post the upload's event and read the answer; never raises for what the network or the sink does."""
        headers, body = to_http(upload.to_event())
        try:
            response = await self._client.post(self._url, headers=headers, content=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return Answer(Verdict.AWAY, f"{self._url} cannot be reached: {error}")
        except httpx2.TimeoutException:
            return Answer(Verdict.RETRY, f"no answer from {self._url} in time")
        except httpx2.TransportError as error:
            return Answer(Verdict.RETRY, f"the connection to {self._url} broke off: {error!r}")
        return judge(response)


def judge(response: httpx2.Response) -> Answer:
    """Return what a response means."""
    status = response.status_code
    if 200 <= status < 300:
        return Answer(Verdict.GONE if response.headers.get("ce-type") == TYPE_GONE else Verdict.DONE)
    reason, retry_after_s = f"{status}: {_reason(response)}", _retry_after_s(response)
    if status == 409:
        return Answer(Verdict.BUSY, reason, retry_after_s)
    # 404: no function behind the address (yet). 503 with Retry-After is the function's own word that MinIO or another
    # part is away; a proxy's 503 has none and may mean that the song killed its worker.
    if status in {404, 429} or (status == 503 and retry_after_s is not None):
        return Answer(Verdict.AWAY, reason, retry_after_s)
    if status == 408 or status >= 500:
        return Answer(Verdict.RETRY, reason, retry_after_s)
    return Answer(Verdict.DEAD, reason)


def _reason(response: httpx2.Response) -> str:
    """Return the detail of a problem (RFC 9457), or the beginning of the body."""
    try:
        detail = str(response.json()["detail"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        detail = response.text or response.reason_phrase
    return " ".join(detail.split())[:_REASON_LIMIT]


def _retry_after_s(response: httpx2.Response) -> float | None:
    """Read Retry-After in its form of seconds; a date, which nobody here sends, counts as absent."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
