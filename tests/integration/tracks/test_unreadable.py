"""Requests that the server in front of the function cannot read: problems, like all other errors."""

import socket

import pytest

from tests.tracks_stack import Stack, problem


def test_a_line_or_a_header_that_is_too_long_is_a_problem(stack: Stack) -> None:
    problem(stack.get(f"/v1/tracks?q={'a' * 9000}"), 414, "9")
    problem(stack.get("/v1/tracks", {"X-Long": "a" * 9000}), 431, "header")


@pytest.mark.parametrize("line", [b"hello", b"GET / HTTP/7.1", b"G\xe4T / HTTP/1.1", b"POST /v1/uploads"])
def test_what_is_no_request_is_answered(stack: Stack, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports["tracks"]), timeout=20) as connection:
        connection.sendall(line + b"\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Type: application/problem+json\r\n" in answer
    assert stack.get("/health/live").status == 200
