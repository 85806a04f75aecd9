"""A client of Server-Sent Events, made from the specification alone."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    id: str
    kind: str
    data: Any


class Listener:
    """Listens from its making on; `last` is the id to come back with."""

    def __init__(self, port: int, last: str | None = None, path: str = "/v1/events") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        headers = f"Last-Event-ID: {last}\r\n" if last else ""
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = dict(iter(self._header, None))
        self.last = last or ""
        self.comments = 0

    def _header(self) -> tuple[str, str] | None:
        line = self.file.readline().decode().rstrip("\r\n")
        name, _, value = line.partition(": ")
        return (name, value) if line else None

    def __iter__(self) -> Iterator[Event]:
        kind, data, told = "message", "", self.last
        for line in self.file:
            name, _, value = line.decode().rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            if line == b"\n":
                self.last = told
                if data:
                    yield Event(told, kind, json.loads(data))
                kind, data = "message", ""
            elif name == "event":
                kind = value
            elif name == "data":
                data += value
            elif name == "id":
                told = value
            elif not name:
                self.comments += 1

    def until(self, kind: str, **fields: object) -> Event:
        """Return the first event of this kind whose data has these fields."""
        for event in self:
            if event.kind == kind and fields.items() <= event.data.items():
                return event
        raise AssertionError(f"the stream ended before {kind} {fields}")

    def begin(self) -> "Listener":
        """Read up to the id with which every stream begins: from there on nothing is missed."""
        for line in self.file:
            if line.startswith(b"id: "):
                self.last = line[4:-1].decode()
                break
        return self

    def close(self) -> None:
        self.file.close()
        self.sock.close()
