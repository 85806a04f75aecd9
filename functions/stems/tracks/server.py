"""gunicorn's worker, which lets a request hand its socket over (see `hub`), and nobody hold up the others."""

import json
import re
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from stems.web import PROBLEM_TYPE

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class _Told:
    """Stands for a client's socket, and keeps what is sent to it."""

    def __init__(self) -> None:
        self.sent = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.sent += data


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread; without this class, a socket that was handed over would be counted as closed twice."""

    def handle(self, conn: Any) -> Any:
        """Answer a request, and close its connection unless it is kept.

        gunicorn closes in the thread that accepts, where each client that does not hang up holds up all for 2 s.
        """
        kept = super().handle(conn)
        if not kept and conn.sock.fileno() != -1:
            conn.close(graceful=True)
        return kept

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Forget a connection that was closed, or whose socket was handed over and is no more ours to close."""
        if conn.sock.fileno() == -1:
            self.nr_conns -= 1
            return
        super().finish_request(conn, fs)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what gunicorn cannot read, such as a line that is too long, like every other error: with a problem."""
        told = _Told()
        super().handle_error(req, told, addr, exc)
        found = _STATUS.match(told.sent)
        status = HTTPStatus(int(found[1]) if found else 500)
        detail = str(exc) if status < 500 else status.description
        problem = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail or status.phrase}
        body = json.dumps(problem).encode()
        head = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: {PROBLEM_TYPE}\r\n"
        with suppress(OSError):  # it has gone
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
