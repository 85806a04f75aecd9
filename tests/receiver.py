"""A web server of the tests that takes whatever is posted to it: a webhook, a Broker, a collector of traces."""

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Post:
    """A request as it came; names of headers in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Answers with the statuses of `script`, the last of them again and again, and keeps what it got.

    While `free` is cleared, whoever posts waits for his answer. `headers` are sent with each answer; with `chain`, the
    file of a certificate and its key, it speaks TLS.
    """

    def __init__(self, *script: int, headers: Mapping[str, str] | None = None, chain: Path | None = None) -> None:
        self.posts: list[Post] = []
        self.script = list(script or (200,))
        self.free = threading.Event()
        self.free.set()
        self.headers = headers or {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posts.append(Post(self.path, headers, body))
                receiver.free.wait(60)
                with contextlib.suppress(OSError):  # who posted was killed
                    self.send_response(receiver.script.pop(0) if len(receiver.script) > 1 else receiver.script[0])
                    for name, value in {"content-length": "0", **receiver.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        if chain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @contextmanager
    def open(self) -> Iterator["Receiver"]:
        """Serve in the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
