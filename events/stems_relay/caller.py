"""Callbacks: a POST to a URL that people gave, which must not lead into our own network nor hold up anything.

The name is resolved once, and the connection goes to that very address if it may be called (`stems.address`); nothing
else is read of the answer than its head; a redirect is not followed. Messages are signed as Standard Webhooks asks
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import logging
import socket
import threading
import time
from collections import Counter

import httpx2

from stems import __version__, address, trace
from stems.config import Secrets, Settings
from stems_relay.callback import Callback
from stems_relay.sink import Answer, Verdict, judge

_log = logging.getLogger(__name__)

_CONNECT_S = 5.0
# A receiver that is slow must leave room for the others.
_PER_HOST = 8
_PORTS = {"http": 80, "https": 443}


class Forbidden(Exception):
    """The receiver stands at an address that may not be called."""


class Caller:
    """Makes callbacks, `limit` at a time."""

    def __init__(self, settings: Settings, limit: int) -> None:
        self._settings = settings
        # The transport alone: no redirects, no cookies, no proxies. No connection is kept: each call has its own name.
        self._transport = httpx2.AsyncHTTPTransport(
            limits=httpx2.Limits(max_connections=limit, max_keepalive_connections=0)
        )
        self._timeout = httpx2.Timeout(settings.callback_timeout_s, connect=_CONNECT_S).as_dict()
        self._in_work: Counter[str] = Counter()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def deliver(self, callback: Callback, places: int = 0, /) -> Answer:
        """Make the call and return what the answer means. Whatever goes wrong counts as an attempt: it is their side.

        Reasons name the host alone: a URL may hold a secret of its owner's, and answers are not for us to show.
        """
        try:
            url = httpx2.URL(callback.url)
            host = url.netloc.decode()
        except (httpx2.InvalidURL, ValueError) as error:
            return Answer(Verdict.DEAD, f"not a URL that can be called: {error}")
        if self._in_work[host] >= _PER_HOST:
            return Answer(Verdict.BUSY, f"{host} has {_PER_HOST} callbacks to answer")
        self._in_work[host] += 1
        try:
            # Those of the transport are for each read; a receiver that answers byte by byte must come to an end too.
            async with asyncio.timeout(self._settings.callback_timeout_s):
                return await self._call(callback, url, host)
        except Forbidden as error:
            return Answer(Verdict.DEAD, str(error))
        except (httpx2.TimeoutException, TimeoutError):
            return Answer(Verdict.RETRY, f"no answer from {host} in time")
        except (httpx2.HTTPError, OSError) as error:
            return Answer(Verdict.RETRY, f"{host} cannot be called: {str(error) or type(error).__name__}")
        # An edge of the process: a URL is a stranger's word, and what is not answered for would come for ever.
        except Exception as error:
            _log.exception("unforeseen error of a callback to %s", host)
            return Answer(Verdict.RETRY, f"{host} cannot be called: {error!r}")
        finally:
            self._in_work[host] -= 1
            self._in_work += Counter()  # forgets those that are at zero

    async def _call(self, callback: Callback, url: httpx2.URL, host: str) -> Answer:
        found = await _resolve(url.raw_host.decode(), url.port or _PORTS[url.scheme])
        # STEMS_CALLBACK is the operator's own word, as K_SINK is.
        allowed = [at for at in found if callback.own or address.is_allowed(at, self._settings.callback_networks)]
        if not allowed:
            shown = ", ".join(map(str, found))
            raise Forbidden(f"{host} is at {shown}: not an address that may be called (STEMS_CALLBACK_NETWORKS)")
        for at in allowed[:-1]:
            with contextlib.suppress(httpx2.ConnectError):
                return await self._post(callback, url, at)
        return await self._post(callback, url, allowed[-1])

    async def _post(self, callback: Callback, url: httpx2.URL, at: address.Address) -> Answer:
        body = callback.body.encode()
        headers = {
            "host": url.netloc.decode(),
            "user-agent": f"stems/{__version__}",
            "connection": "close",
            "content-type": callback.content_type,
            "stems-state": callback.state,
            **self._signed(callback, body),
        }
        if (here := trace.here()) and here.traceparent:
            headers["traceparent"] = here.traceparent
        # The name stays what TLS asks for and the certificate must show.
        extensions = {"timeout": self._timeout, "sni_hostname": url.raw_host.decode()}
        pinned = url.copy_with(host=str(at))
        request = httpx2.Request("POST", pinned, headers=headers, content=body, extensions=extensions)
        response = await self._transport.handle_async_request(request)
        await response.aclose()
        return _judge(response, url.netloc.decode())

    def _signed(self, callback: Callback, body: bytes) -> dict[str, str]:
        """Return the headers of Standard Webhooks; without a secret there is no signature among them."""
        settings, timestamp = self._settings, int(time.time())
        secrets = settings.callback_secret
        if not callback.own:
            secrets = settings.callback_song_secret or secrets
        headers = {"webhook-id": callback.job, "webhook-timestamp": str(timestamp)}
        if secrets:
            headers["webhook-signature"] = signature(secrets, callback.job, timestamp, body)
        return headers


def signature(secrets: Secrets, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signatures of a message, one for each secret: while one replaces another, receivers know either."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    made = (base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets)
    return " ".join(f"v1,{each}" for each in made)


def _judge(response: httpx2.Response, host: str) -> Answer:
    """Return what an answer means: as with every delivery, but that each answer counts as an attempt."""
    status = response.status_code
    judged = judge(status, {"retry-after": response.headers.get("retry-after", "")}, b"")
    if judged.verdict in {Verdict.DONE, Verdict.GONE}:
        return Answer(Verdict.DONE)
    if judged.verdict is Verdict.DEAD:
        return Answer(Verdict.DEAD, f"{host} answers {status}" + (", and no redirect is followed" * (status < 400)))
    return Answer(Verdict.RETRY, f"{host} answers {status}", judged.retry_after_s)


async def _resolve(host: str, port: int) -> list[address.Address]:
    """Return the addresses of a host, the best first. Raises OSError.

    In a thread of its own, which nobody waits for in the end: a name server that hangs must not keep the threads busy
    in which songs are tagged, nor the relay from ending.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[address.Address]] = loop.create_future()

    def enter(result: list[address.Address] | OSError) -> None:
        if not found.done():
            found.set_exception(result) if isinstance(result, OSError) else found.set_result(result)

    def look() -> None:
        result: list[address.Address] | OSError
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # Without the zone of a link-local one.
            result = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
        except UnicodeError:  # a name with a label that is empty or too long
            result = OSError(f"{host} is not a name")
        except OSError as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(enter, result)

    threading.Thread(target=look, name="resolve", daemon=True).start()
    return await found
