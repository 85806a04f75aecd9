"""gunicorn's worker, which lets a request hand its socket over (see `hub`)."""

from concurrent.futures import Future
from typing import Any

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread; without this class, a socket that was handed over would be counted as closed twice."""

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Forget a connection whose socket was handed over; it is no more ours to close."""
        if conn.sock.fileno() == -1:
            self.nr_conns -= 1
            return
        super().finish_request(conn, fs)
