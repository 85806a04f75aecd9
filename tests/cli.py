"""The command line: in this process, in one of its own, and with real servers behind it."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from minio import Minio

from stems import jobs
from stems.cli import main
from stems.config import Settings
from tests.servers import free_port, until

USER, PASSWORD = "cli-test", "cli-test-secret"
KEY = "in/夜に駆ける.mp3"


class Service:
    """Where the servers are, and clients of them."""

    def __init__(self) -> None:
        self.ports = {name: free_port() for name in ("minio", "redis", "tracks")}
        self.environ = {
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": USER,
            "STEMS_S3_SECRET_KEY": PASSWORD,
            "STEMS_REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "STEMS_URL": f"http://127.0.0.1:{self.ports['tracks']}",
        }
        self.settings = Settings.from_env(self.environ)
        self.s3 = Minio(f"127.0.0.1:{self.ports['minio']}", USER, PASSWORD, secure=False)
        self.redis: Any = jobs.connect(self.settings)

    def wait(self) -> None:
        for path in (
            f"{self.settings.s3_endpoint}/minio/health/ready",
            f"{self.settings.tracks_url}/health/live",
        ):
            until(lambda path=path: urllib.request.urlopen(path, timeout=5).close() or True)  # type: ignore[misc]
        until(self.redis.ping)


@contextmanager
def program(*arguments: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a process of its own."""
    environ = {**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "stems.cli", *arguments]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep the settings of whoever runs the tests out: their variables and their `.stems/env`."""
    for name in os.environ:
        if name.startswith("STEMS_") or name in {"K_SINK", "PORT"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)


def invoke(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, arguments, prog_name="stems")


def run(*arguments: str, code: int = 0) -> Result:
    """Run the command line in this process; it must end with `code`."""
    done = invoke(*arguments)
    assert done.exit_code == code, (done.output, done.exception)
    return done
