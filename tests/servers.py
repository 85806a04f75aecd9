"""Servers that tests start on free ports, and waiting for them."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
import urllib3

from tests.programs import CHECKOUT, need

REDIS_USERS = ("minio", "relay", "separate", "tracks", "logs", "admin")
DURABLE = ("appendonly yes", "appendfsync always")  # Redis keeps what it holds, as in life


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


def guarded_redis(folder: Path, port: int, *settings: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the variables of a Redis with the users of events/users.conf."""
    conf = folder / "redis.conf"
    conf.write_text("\n".join([f'bind 127.0.0.1\nport {port}\ndir {folder}\nsave ""', *settings, ""]))
    environ = {f"REDIS_{user.upper()}_PASSWORD": f"{user}-password" for user in REDIS_USERS}
    return ["sh", str(CHECKOUT / "events" / "redis.sh"), str(conf)], {"REDIS_SERVER": need("redis-server"), **environ}


def redis_in_life(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command and the variables of a Redis as events/redis.conf has it, but for where it writes."""
    lines = (CHECKOUT / "events" / "redis.conf").read_text().splitlines()
    return guarded_redis(folder, port, *(line for line in lines if not line.startswith("dir ")))


def redis_url(user: str, port: int) -> str:
    """Return the address of a guarded Redis for one of its users."""
    return f"redis://{user}:{user}-password@127.0.0.1:{port}/0"


def refused(admin: Any) -> list[str]:
    """Return what a guarded Redis refused; clients since 7.2 tell it their name, which nobody needs."""
    entries = [entry for entry in admin.acl_log() if entry["object"] != "client|setinfo"]
    return [f"{entry['username']}: {entry['object']}" for entry in entries]


def redis_command(port: int, *options: str) -> list[str]:
    """Return the command of a Redis that nobody else on the network sees and that writes no snapshots."""
    return [need("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
