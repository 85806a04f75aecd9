"""The servers that the command line talks to, started once for this folder and emptied for each test."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stems import naming
from tests.cli import KEY, PASSWORD, USER, Service, alone
from tests.servers import minio_command, redis_command


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, service = tmp_path_factory.mktemp("cli"), Service()
    commands = [
        minio_command(service.ports["minio"], folder / "minio"),
        redis_command(service.ports["redis"]),
        [sys.executable, "-m", "stems.cli", "serve", "tracks", "--port", str(service.ports["tracks"])],
    ]
    root = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "PYTHONPATH": os.pathsep.join(sys.path)}
    environ = {**os.environ, **service.environ, **root}
    with (folder / "log").open("ab") as log:
        running = [subprocess.Popen(each, env=environ, cwd=folder, stdout=log, stderr=log) for each in commands]
    try:
        service.wait()
        for bucket in (naming.QUEUE_BUCKET, naming.OUTPUT_BUCKET):
            service.s3.make_bucket(bucket)
        yield service
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait(20)


@pytest.fixture
def service(servers: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    """Return the servers, emptied, with the settings that lead to them and an empty folder to work in."""
    alone(monkeypatch, tmp_path)
    for name, value in servers.environ.items():
        monkeypatch.setenv(name, value)
    servers.redis.flushall()
    for bucket in (naming.QUEUE_BUCKET, naming.OUTPUT_BUCKET):
        for item in servers.s3.list_objects(bucket, recursive=True):
            servers.s3.remove_object(bucket, item.object_name or "")
    return servers


def bury(service: Service, key: str, error: str, *, at_ms: int) -> str:
    """Make a dead letter as the relay does."""
    job = naming.job_id("queue", key, "e" * 32)
    record = {"eventName": "s3:ObjectCreated:Put", "s3": {"object": {"key": key}}}
    fields = {"bucket": "queue", "key": key, "etag": "e" * 32, "uploaded_ms": at_ms, "record": json.dumps(record)}
    service.redis.hset(naming.job_key(job), mapping={**fields, "state": "failed", "error": error, "updated_ms": at_ms})
    service.redis.hset(naming.ATTEMPTS, job, 3)
    service.redis.zadd(naming.DEAD, {job: at_ms})
    return job


@pytest.fixture
def letters(service: Service) -> list[str]:
    first = bury(service, KEY, "422: not a song", at_ms=1_700_000_000_000)
    second = bury(service, "other.mp3", "503: gave up", at_ms=1_700_000_001_000)
    payload = "no JSON"
    unreadable = "f" * 32
    service.redis.hset(naming.job_key(unreadable), mapping={"state": "failed", "payload": payload, "error": "odd"})
    service.redis.zadd(naming.DEAD, {unreadable: 1_700_000_002_000})
    return [first, second, unreadable]
