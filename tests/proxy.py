"""A TCP proxy between two parts, which tests tell to reset, stall or slow what passes, and which sees requests go by.

A trigger fires once, at the moment when a request that it knows is about to go on, or when its answer is about to come
back: so tests strike at moments that are too short to be hit by chance.
"""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PASS, STALL, SLOW, RESET = "pass", "stall", "slow", "reset"
_CHUNK = 65536
_SLOW_BYTES = 2048  # per 20 ms: 100 kB/s
_LINGER_NONE = struct.pack("ii", 1, 0)


# A script that Redis does not know has done nothing; it is sent again as a whole.
ANSWER = re.compile(rb"^(?!-NOSCRIPT)")


@dataclass
class Trigger:
    """Calls `act` when a request matches: before it goes on, or `after`, when the first of an `answer` like this comes
    back. What was matched (the request, or its answer) is not passed on, and its connection is cut, unless it `passes`.
    """

    request: re.Pattern[bytes]
    act: Callable[[], None]
    after: bool = False
    answer: re.Pattern[bytes] = ANSWER
    passes: bool = False
    fired: threading.Event = field(default_factory=threading.Event)
    _claimed: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Tell whether the caller is the one to fire it."""
        return self._claimed.acquire(blocking=False)

    def release(self) -> None:
        """Let it be fired by another request: this one had another answer, or none."""
        self._claimed.release()

    def fire(self) -> None:
        """Act, and say so."""
        self.act()
        self.fired.set()


class Proxy:
    """Listens on `port` and passes on to the first of `targets` (ports) that takes the connection, in turn."""

    def __init__(self, *targets: int) -> None:
        self.targets = list(targets)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.mode = PASS
        self.triggers: list[Trigger] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._closed = True
        self.mode = PASS
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            found, self._open = self._open, set()
        for each in found:
            _reset(each)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect() if self.mode != RESET else None
            if server is None:
                _reset(client)
                continue
            with self._lock:
                self._open |= {client, server}
            link = _Link(self, client, server)
            threading.Thread(target=link.pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=link.pump, args=(server, client, False), daemon=True).start()

    def _connect(self) -> socket.socket | None:
        for _ in self.targets:
            self.targets.append(self.targets.pop(0))
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", self.targets[0]), timeout=2)
                server.settimeout(None)
                return server
        return None

    def forget(self, *sockets: socket.socket) -> None:
        """Reset the two ends of a connection."""
        with self._lock:
            self._open -= set(sockets)
        for each in sockets:
            _reset(each)

    def hold(self) -> None:
        """Wait while the proxy stalls."""
        while self.mode == STALL:
            time.sleep(0.01)


class _Link:
    """One connection; both its directions end together."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._ends = proxy, (client, server)
        self._awaited: Trigger | None = None

    def pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._proxy.hold()
                if self._proxy.mode == RESET or self._strikes(data, upwards):
                    break
                if self._proxy.mode == SLOW:
                    for start in range(0, len(data), _SLOW_BYTES):
                        sink.sendall(data[start : start + _SLOW_BYTES])
                        time.sleep(0.02)
                else:
                    sink.sendall(data)
        except OSError:
            pass
        self._proxy.forget(*self._ends)
        if not upwards and (trigger := self._awaited):
            trigger.release()

    def _strikes(self, data: bytes, upwards: bool) -> bool:
        """Fire the trigger for this request, or for the answer to the one before."""
        if not upwards:
            trigger, self._awaited = self._awaited, None
            if trigger is None:
                return False
            if not trigger.answer.search(data):
                trigger.release()
                return False
            trigger.fire()
            return not trigger.passes
        for trigger in list(self._proxy.triggers):
            if trigger.after and self._awaited:
                continue
            if trigger.request.search(data) and trigger.claim():
                if not trigger.after:
                    trigger.fire()
                    return not trigger.passes
                self._awaited = trigger
        return False


def _reset(end: socket.socket) -> None:
    """Close with a RST, and wake whoever reads from it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
