"""How fast the relay works off a backlog, and what memory that takes: 20,000 notifications and a sink of no work."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from stems import jobs, naming
from stems.config import Settings
from tests.bench.machine import machine
from tests.programs import need

SONGS = 20_000
LIMIT_S = 110

# A process of its own: the relay's rate is to be measured, not that of a thread beside the test.
SINK = """
import asyncio, sys

class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""
    def data_received(self, data):
        self.data += data
        head, end, body = self.data.partition(b"\\r\\n\\r\\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\\r\\n")[0]):
            self.data = b""
            asyncio.get_running_loop().call_later(float(sys.argv[1]), self.answer)
    def answer(self):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")

async def main():
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
RELAY = "from stems.config import Settings; from stems_relay.relay import run; run(Settings.from_env())"


def payload(number: int) -> str:
    """Return a notification of MinIO's size and shape."""
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-11-22T05:00:00.000Z",
        "eventName": "s3:ObjectCreated:Put",
        "userIdentity": {"principalId": "uploader"},
        "requestParameters": {"principalId": "uploader", "region": "", "sourceIPAddress": "127.0.0.1"},
        "responseElements": {
            "x-amz-id-2": "dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8",
            "x-amz-request-id": f"{number:016X}",
            "x-minio-deployment-id": "5f5bf2e1-5f6a-4b1d-a4ae-6a0a3e1b5a33",
            "x-minio-origin-endpoint": "http://127.0.0.1:9000",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": "queue", "ownerIdentity": {"principalId": "uploader"}, "arn": "arn:aws:s3:::queue"},
            "object": {
                "key": f"album/{number:05}.mp3",
                "size": 4_194_304,
                "eTag": f"{number:032x}",
                "contentType": "audio/mpeg",
                "userMetadata": {"content-type": "audio/mpeg"},
                "sequencer": f"{1_790_000_000_000_000_000 + number * 1_000_000:X}",
            },
        },
        "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO (linux; amd64) minio-go/v7.0.90 mc/RELEASE"},
    }
    return json.dumps([{"Event": [record], "EventTime": record["eventTime"]}])


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, "not done in time"
        time.sleep(0.05)


@pytest.mark.bench
@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.parametrize(("latency_s", "in_flight"), [(0.0, 20), (0.005, 200)])
def test_backlog(latency_s: float, in_flight: int, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    command = [need("redis-server"), "--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path)]
    command += ["--appendonly", "yes", "--save", ""]
    environ = {
        "STEMS_REDIS_URL": f"unix://{socket}",
        "STEMS_S3_ENDPOINT": "http://127.0.0.1:9",  # nobody: the sweep waits, nothing else needs it
        "STEMS_S3_ACCESS_KEY": "none",
        "STEMS_S3_SECRET_KEY": "none-at-all",
        "STEMS_MAX_IN_FLIGHT": str(in_flight),
        "STEMS_LOG_LEVEL": "WARNING",
    }
    client: Any = jobs.connect(Settings.from_env(environ))
    sink_command = [sys.executable, "-c", SINK, str(latency_s)]
    with (
        running(command, stdout=subprocess.DEVNULL),
        running(sink_command, stdout=subprocess.PIPE) as sink,
        (tmp_path / "relay.log").open("w") as log,
    ):
        until(client.ping)
        assert sink.stdout
        environ["K_SINK"] = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
        with running([sys.executable, "-c", RELAY], env=os.environ | environ, stderr=log) as relay:
            until(lambda: client.zcard(naming.RELAYS))
            before_mib, started = rss_mib(relay.pid), time.monotonic()
            for first in range(0, SONGS, 1000):
                client.rpush(naming.NOTIFICATIONS, *map(payload, range(first, first + 1000)))
            pushed_s = time.monotonic() - started
            held = [naming.processing_key, naming.delivering_key]
            (name,) = client.zrange(naming.RELAYS, 0, -1)
            until(
                lambda: (
                    not client.llen(naming.NOTIFICATIONS)
                    and not client.zcard(naming.WAITING)
                    and not any(client.exists(key(name)) for key in held)
                )
            )
            seconds, after_mib = time.monotonic() - started, rss_mib(relay.pid)
            done = sum(1 for _ in client.scan_iter("stems:job:*", count=1000))
    client.close()
    assert done == SONGS
    print(f"\n{machine()}\n{SONGS} notifications, pushed in {pushed_s:.1f} s")
    print(f"  sink latency {latency_s * 1000:.0f} ms, {in_flight} in flight: {SONGS / seconds:,.0f} events/s")
    print(f"  relay RSS {before_mib:.0f} MiB before, {after_mib:.0f} MiB after")
