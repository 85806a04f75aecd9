"""Lines of the log that are for people: whatever a stranger's file is called, they stay lines."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from stems import naming
from tests.servers import free_port, redis_command, until

PROGRAM = """
import logging, sys
from stems import jobs, logs
from stems.config import Settings
settings = Settings.from_env()
logs.configure(settings, "part", jobs.connect(settings))
try:
    raise ValueError("first\\x1b]0;title\\x07\\rsecond\\u202e\\nthird\\x9b31m")
except ValueError:
    logging.exception("odd")
sys.stdin.read()
"""


def test_a_traceback_steers_no_terminal(tmp_path: Path) -> None:
    port = free_port()
    server = subprocess.Popen(redis_command(port), cwd=tmp_path, stdout=subprocess.DEVNULL)
    client: Any = redis.Redis(port=port, decode_responses=True)
    try:
        until(client.ping)
        environ = {**os.environ, "STEMS_REDIS_URL": f"redis://127.0.0.1:{port}/0", "STEMS_LOG_FORMAT": "text"}
        command = [sys.executable, "-c", PROGRAM]
        with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as part:
            until(lambda: client.llen(naming.LOG_TAIL))
            _, errors = part.communicate()
        (tail,) = client.lrange(naming.LOG_TAIL, 0, -1)
    finally:
        client.close()
        server.kill()
        server.wait()
    for told in (errors.decode(), tail):
        head, *lines = told.rstrip("\n").split("\n")
        assert head.endswith("part     ERROR odd")
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-2:] == [r"ValueError: first\x1b]0;title\x07\rsecond\u202e", r"third\x9b31m"]
