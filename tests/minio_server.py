"""A MinIO with the Redis that it notifies, set up by minio-config/apply.py."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from minio import Minio, MinioAdmin
from minio.commonconfig import Tags
from minio.credentials.providers import StaticProvider

from tests.programs import CHECKOUT
from tests.servers import free_port, minio_command, redis_command

USERS = ("separate", "tracks", "relay", "uploader")
SECRETS = {user: f"{user}-secret" for user in USERS}
STRANGERS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::queue/*"],
        }
    ],
}
Outcome = dict[str, str]


@dataclass(frozen=True, slots=True)
class Server:
    """A running MinIO with the Redis that it notifies."""

    endpoint: str
    redis: redis.Redis

    def login(self, user: str, secret: str | None = None) -> Minio:
        """Return the client of a user."""
        return Minio(self.endpoint, user, secret or SECRETS.get(user, "root-secret"), secure=False, region="us-east-1")

    def admin(self, user: str = "root") -> MinioAdmin:
        """Return the administration client of a user."""
        provider = StaticProvider(user, SECRETS.get(user, "root-secret"))
        return MinioAdmin(endpoint=self.endpoint, credentials=provider, secure=False)

    def start_apply(self, **settings: str) -> "subprocess.Popen[str]":
        """Start apply.py with the settings of these tests and `settings` on top."""
        environ = {
            "PYTHONPATH": str(CHECKOUT / "functions"),
            "STEMS_S3_ENDPOINT": f"http://{self.endpoint}",
            "MINIO_ROOT_USER": "root",
            "MINIO_ROOT_PASSWORD": "root-secret",
            **{f"STEMS_{user.upper()}_SECRET_KEY": secret for user, secret in SECRETS.items()},
            **settings,
        }
        command = [sys.executable, str(CHECKOUT / "minio-config" / "apply.py")]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def apply(self, **settings: str) -> Outcome:
        """Run apply.py; return what it says it did to what, leaving out what it left alone."""
        return outcome(self.start_apply(**settings))

    def refused(self, **settings: str) -> str:
        """Run apply.py, which must fail, and return its one line of error."""
        with self.start_apply(**settings) as process:
            _, errors = process.communicate()
        assert process.returncode == 1
        (line,) = errors.splitlines()
        return line


def outcome(process: "subprocess.Popen[str]") -> Outcome:
    """Wait for apply.py and read its lines."""
    with process:
        printed, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    lines = dict(line.rsplit(": ", 1) for line in printed.splitlines())
    assert len(lines) == len(printed.splitlines()) > 10
    (first,) = [thing for thing in lines if thing.startswith("MinIO at ")]
    assert lines.pop(first) == "ready"
    return {thing: done for thing, done in lines.items() if done != "unchanged"}


@contextmanager
def running(*command: str, log: Path, environ: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a server until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=environ, stdout=out, stderr=subprocess.STDOUT)
    with process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def minio(folder: Path, **variables: str) -> Iterator[tuple[Server, Outcome]]:
    """Start Redis, apply.py and then MinIO; yield the server and what apply.py did."""
    port, redis_port = free_port(), free_port()
    environ = {
        "HOME": str(folder),
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": "root-secret",
        "MINIO_BROWSER": "off",
    }
    for target in ("FAST", "DURABLE", "OTHER"):
        values = {"ENABLE": "on", "ADDRESS": f"127.0.0.1:{redis_port}", "KEY": target, "FORMAT": "access"}
        environ |= {f"MINIO_NOTIFY_REDIS_{name}_{target}": value for name, value in values.items()}
    environ |= {"MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE": str(folder / "events"), **variables}
    command, redis_server = minio_command(port, folder / "data"), redis_command(redis_port, "--dir", str(folder))
    with ExitStack() as stack:
        stack.enter_context(running(*redis_server, log=folder / "redis.log"))
        server = Server(f"127.0.0.1:{port}", stack.enter_context(redis.Redis(port=redis_port, decode_responses=True)))
        applying = server.start_apply(STEMS_S3_REGION=variables.get("MINIO_SITE_REGION", "us-east-1"))
        time.sleep(0.5)  # it has to wait
        stack.enter_context(running(*command, log=folder / "minio.log", environ=environ))
        yield server, outcome(applying)


def tags() -> Tags:
    """Return the tags of a song that is done."""
    made = Tags.new_object_tags()
    made["state"] = "done"
    return made
