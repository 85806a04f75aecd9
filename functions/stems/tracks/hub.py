"""All clients of the events in one thread: it has their sockets, and nothing else for each of them.

A thread of gunicorn's answers a request for as long as the answer lasts; a thousand clients that listen for hours would
need a thousand. So the request hands its socket over (see `server`), and ends. What is sent is made once for all.
"""

import logging
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
#: Who is so far behind is let go: it comes back, and is told what it missed.
BEHIND_BYTES = 1 << 18
_RECENT = 1024

Position = tuple[int, int]
_NOTE = b":\n\n"


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    unsent: bytes = b""


@dataclass(slots=True)
class Hub:
    """Sends everything to everybody. Its methods may be called from any thread."""

    _clients: dict[int, _Client] = field(default_factory=dict)
    _recent: deque[tuple[Position, bytes]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _orders: deque[tuple[socket.socket | None, bytes, Position]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _selector: selectors.BaseSelector | None = None
    _waker: socket.socket | None = None

    def adopt(self, sock: socket.socket, first: bytes, after: Position) -> None:
        """Send a client `first`, and from then on everything that is published with a position behind `after`."""
        self._order(sock, first, after)

    def publish(self, position: Position, data: bytes) -> None:
        """Send something to everybody."""
        self._order(None, data, position)

    def __len__(self) -> int:
        return len(self._clients)

    def _order(self, sock: socket.socket | None, data: bytes, position: Position) -> None:
        with self._lock:
            if self._waker is None:
                self._start()
            self._orders.append((sock, data, position))
            assert self._waker is not None
        with suppress(BlockingIOError):  # where it has enough to wake up for
            self._waker.send(b"\0")

    def _start(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._waker, woken = socket.socketpair()
        for end in (self._waker, woken):
            end.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        threading.Thread(target=self._run, args=(self._selector, woken), name="hub", daemon=True).start()

    def _run(self, selector: selectors.BaseSelector, woken: socket.socket) -> None:
        beat = time.monotonic() + HEARTBEAT_S
        while True:
            for key, mask in selector.select(max(beat - time.monotonic(), 0)):
                client: _Client | None = key.data
                if client is None:
                    _drain(woken)
                elif mask & selectors.EVENT_READ:
                    self._hear(selector, client)
                else:
                    self._send(selector, client, b"")
            # An edge: whatever is wrong with one order must not end the thread of all.
            try:
                self._obey(selector)
            except Exception:
                _log.exception("an event was not sent")
            if time.monotonic() >= beat:
                beat = time.monotonic() + HEARTBEAT_S
                self._send_all(selector, _NOTE)

    def _obey(self, selector: selectors.BaseSelector) -> None:
        while self._orders:
            sock, data, position = self._orders.popleft()
            if sock is None:
                self._recent.append((position, data))
                self._send_all(selector, data)
                continue
            sock.setblocking(False)
            client = self._clients[sock.fileno()] = _Client(sock)
            selector.register(sock, selectors.EVENT_READ, client)
            # Published between the moment the client was told of and this one.
            missed = (sent for at, sent in self._recent if at > position)
            self._send(selector, client, b"".join((data, *missed)))

    def _send_all(self, selector: selectors.BaseSelector, data: bytes) -> None:
        for client in list(self._clients.values()):
            self._send(selector, client, data)

    def _send(self, selector: selectors.BaseSelector, client: _Client, data: bytes) -> None:
        waited = bool(client.unsent)
        rest = client.unsent + data if waited else data
        try:
            sent = client.sock.send(rest) if rest else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(selector, client)
            return
        client.unsent = rest[sent:]
        if len(client.unsent) > BEHIND_BYTES:
            self._drop(selector, client)
        elif bool(client.unsent) != waited:
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
            selector.modify(client.sock, interest, client)

    def _hear(self, selector: selectors.BaseSelector, client: _Client) -> None:
        """Notice that a client has gone; it has nothing to say."""
        try:
            if client.sock.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(selector, client)

    def _drop(self, selector: selectors.BaseSelector, client: _Client) -> None:
        selector.unregister(client.sock)
        del self._clients[client.sock.fileno()]
        client.sock.close()


def _drain(woken: socket.socket) -> None:
    with suppress(BlockingIOError):
        while woken.recv(4096):
            pass
