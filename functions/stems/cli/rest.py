"""A client of the REST function, for the commands that ask it."""

import base64
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import httpx2

from stems.errors import PermanentError, TransientError, UnknownTrack

# A function that was scaled to zero takes a while to answer the first request.
_TIMEOUT = httpx2.Timeout(60, connect=3)
_PAGE = 100


class Rest:
    """The REST function at `url`, asked with a token if there is one; its problems become errors of ours.

    User and password may stand in `url`, where a proxy asks for them; no error shows them.
    """

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        user, _, place = parts.netloc.rpartition("@")
        self._url = urlunsplit(parts._replace(netloc=place)) + "/"
        if user:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            token = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif token:
            token = f"Bearer {token}"
        self._token = {"Authorization": token} if token else {}
        self._client = httpx2.Client(timeout=_TIMEOUT, follow_redirects=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def tracks(self, limit: int | None) -> Iterator[dict[str, Any]]:
        """Read tracks, newest first, page by page; all of them where `limit` is None."""
        left = sys.maxsize if limit is None else limit
        address: str | None = f"v1/tracks?limit={min(left, _PAGE)}" if left else None
        while address:
            page = self._json(address)
            yield from page["tracks"][:left]
            left -= len(page["tracks"])
            address = page["next"] if left > 0 else None

    def track(self, songhash: str) -> dict[str, Any]:
        """Return one track. Raises UnknownTrack."""
        return self._json(f"v1/tracks/{songhash}")

    def queue(self) -> dict[str, Any]:
        """Return what waits, runs and failed."""
        return self._json("v1/queue")

    def download(self, address: str, path: Path, on_progress: Callable[[float], None]) -> None:
        """Write what is at `address` (relative to the function, or not) to `path`."""
        url, headers = self._target(address)
        with self._translated(), self._client.stream("GET", url, headers=headers) as response:
            _raise_for(response)
            total, done = int(response.headers.get("Content-Length", 0)), 0
            with path.open("wb") as file:
                for chunk in response.iter_bytes(1 << 18):
                    done += file.write(chunk)
                    on_progress(done / total if total else 0)

    def _json(self, address: str) -> dict[str, Any]:
        with self._translated():
            url, headers = self._target(address)
            response = self._client.get(url, headers=headers)
            _raise_for(response)
            try:
                data: dict[str, Any] = response.json()
            except ValueError as error:
                raise PermanentError(f"{response.url} does not answer as the function tracks does: {error}") from error
        return data

    def _target(self, address: str) -> tuple[str, dict[str, str]]:
        """Return where an address leads, and the token if that is the function: it is nobody else's."""
        url = urljoin(self._url, address)
        return url, self._token if url.startswith(self._url) else {}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise TransientError(
                f"the function at {self._url} does not answer: {error}; STEMS_URL says where it is"
            ) from error


def _raise_for(response: httpx2.Response) -> None:
    """Raise the problem (RFC 9457) that the function answered with, if it did."""
    if response.is_success:
        return
    response.read()
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{response.url} answers {response.status_code} {response.reason_phrase}"
    if response.status_code == 401:
        detail += "; STEMS_TOKEN takes it"
    if response.status_code == 404:
        raise UnknownTrack(detail)
    raise TransientError(detail) if response.status_code >= 500 else PermanentError(detail)
