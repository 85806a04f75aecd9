"""gunicorn's worker, which lets a request hand its socket over (see `hub`), and nobody hold up the others."""

from concurrent.futures import Future
from typing import Any

from gunicorn.workers.gthread import ThreadWorker


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
