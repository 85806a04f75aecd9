"""Clients that stop in the middle: after a while they are let go, and their threads serve others."""

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from tests.tracks_stack import CONFIG, SONG, Stack

PATIENCE_S = 1


@pytest.fixture(scope="module")
def impatient(stack: Stack) -> Iterator[Stack]:
    """The function as it is, but for its patience."""
    stack.clear()
    stack.kill("tracks")
    stack.config = stack.folder / "impatient.conf.py"
    stack.config.write_text(f"{CONFIG.read_text()}\nSTALLED_CLIENT_S = {PATIENCE_S}\n")
    stack.start("tracks")
    yield stack
    stack.kill("tracks")
    stack.config = CONFIG
    stack.start("tracks")


def answer(connection: socket.socket) -> bytes:
    """Return all that comes until the function closes the connection."""
    connection.settimeout(20)
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


@pytest.mark.parametrize(
    ("head", "begun"),
    [
        ("POST /v1/tracks?name=a.mp3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", SONG),
        (
            "POST /v1/tracks?name=a.mp3 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"400\r\n" + SONG,
        ),
        ("POST /apiv1/separate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b'{"mp3": "aaaa'),
        (
            "POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/json\r\nContent-Length: 90\r\n\r\n",
            b"{",
        ),
    ],
    ids=["song", "chunked", "classic", "json"],
)
def test_who_sends_no_more_is_answered_and_let_go(impatient: Stack, head: str, begun: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.ports["tracks"])) as connection:
        connection.sendall(head.encode() + begun)
        found = answer(connection)
    status, _, body = found.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 408 "), found
    assert json.loads(body)["status"] == 408
    assert not list(impatient.s3.list_objects("queue", recursive=True))


def test_many_who_stop_take_nobody_s_place(impatient: Stack) -> None:
    """More than there are threads; some have not even said what they want. Not one hangs up."""
    with contextlib.ExitStack() as waiting:
        for number in range(80):
            connection = socket.create_connection(("127.0.0.1", impatient.ports["tracks"]))
            waiting.enter_context(connection)
            ending = b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{" if number % 2 else b""
            connection.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\n" + ending)
        for _ in range(3):
            assert impatient.get("/health/live", {"Connection": "close"}).status == 200
