"""Servers that tests start on free ports, and waiting for them."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import redis
import urllib3

from tests.programs import need


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait for a condition; what it needs may be away meanwhile."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, redis.RedisError, urllib3.exceptions.HTTPError):
            if condition():
                return
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def minio_command(port: int, data: Path) -> list[str]:
    """Return the command of a MinIO that nobody else on the network sees."""
    addresses = ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{free_port()}"]
    return [need("minio"), "server", str(data), "--quiet", *addresses]


def redis_command(port: int, *options: str) -> list[str]:
    """Return the command of a Redis that nobody else on the network sees and that writes no snapshots."""
    return [need("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
