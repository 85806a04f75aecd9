"""How fast relays work off 100,000 notifications, and what memory that takes, with a sink that does nothing.

Redis is as in life (events/redis.conf, over TCP, each part its own user): it has every write on disk before it answers.
"""

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
from tests.servers import free_port, redis_in_life, redis_url

SONGS = 100_000
LIMIT_S = 300

# A process of its own, in C's stead as little Python as will do: it works on the same two cores.
SINK = """
import asyncio, sys

latency_s = float(sys.argv[1])
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n"

class Sink(asyncio.Protocol):
    data = b""
    def connection_made(self, transport):
        self.write = transport.write
    def data_received(self, data):
        self.data += data
        end = self.data.find(b"\\r\\n\\r\\n")
        length = self.data.find(b"Content-Length: ", 0, end)
        if length > 0 and len(self.data) >= end + 4 + int(self.data[length + 16 : self.data.find(b"\\r", length)]):
            self.data = b""
            if latency_s:
                loop.call_later(latency_s, self.write, ANSWER)
            else:
                self.write(ANSWER)

async def main():
    global loop
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=2048)
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


def memory_mib(pid: int, field: str) -> float:
    """Return the resident memory of a process: VmRSS, now; VmHWM, the most since `forget_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def forget_peak(pid: int) -> None:
    """Have the peak of a process begin at what it has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pid: int) -> float:
    """Return the seconds that a process has computed for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def left(client: Any) -> int:
    """Return how many songs are on their way; those that are just being entered count twice."""
    relays = client.zrange(naming.RELAYS, 0, -1)
    pipe = client.pipeline()
    pipe.llen(naming.NOTIFICATIONS).zcard(naming.WAITING)
    for relay in relays:
        pipe.llen(naming.processing_key(relay)).scard(naming.delivering_key(relay))
    return sum(pipe.execute())


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
@pytest.mark.parametrize(("relays", "latency_s", "in_flight"), [(1, 0, 100), (2, 0, 100), (1, 0.005, 1000)])
def test_backlog(relays: int, latency_s: float, in_flight: int, tmp_path: Path) -> None:
    port = free_port()
    command, passwords = redis_in_life(tmp_path, port)
    environ = {
        "STEMS_REDIS_URL": redis_url("relay", port),
        "STEMS_S3_ENDPOINT": "http://127.0.0.1:9",  # nobody: the sweep waits, nothing else needs it
        "STEMS_S3_ACCESS_KEY": "none",
        "STEMS_S3_SECRET_KEY": "none-at-all",
        "STEMS_MAX_IN_FLIGHT": str(in_flight),
        "STEMS_LOG_LEVEL": "WARNING",
    }
    client: Any = jobs.connect(Settings.from_env(environ | {"STEMS_REDIS_URL": redis_url("admin", port)}))
    sink_command = [sys.executable, "-c", SINK, str(latency_s)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(command, env=os.environ | passwords, stdout=subprocess.DEVNULL))
        sink = stack.enter_context(running(sink_command, stdout=subprocess.PIPE))
        log = stack.enter_context((tmp_path / "relay.log").open("w"))
        until(client.ping)
        assert sink.stdout
        environ["K_SINK"] = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
        for first in range(0, SONGS, 1000):
            client.rpush(naming.NOTIFICATIONS, *map(payload, range(first, first + 1000)))
        parts = {"sink": sink.pid, "Redis": server.pid}
        for number in range(1, relays + 1):
            process = running([sys.executable, "-c", RELAY], env=os.environ | environ, stderr=log)
            parts[f"relay {number}"] = stack.enter_context(process).pid
        until(lambda: client.zcard(naming.RELAYS) == relays)
        started, at_start = time.monotonic(), left(client)
        before_s = {part: cpu_s(pid) for part, pid in parts.items()}
        before_mib = {part: memory_mib(pid, "VmRSS") for part, pid in parts.items()}
        for pid in parts.values():
            forget_peak(pid)
        until(lambda: not left(client))
        seconds = time.monotonic() - started
        print(f"\n{machine()}\n{relays} relays, {in_flight} in flight each, a sink of {latency_s * 1000:.0f} ms")
        print(f"  {at_start:,} of {SONGS:,} waiting when the clock starts: {at_start / seconds:,.0f} events/s")
        for part, pid in parts.items():
            share = (cpu_s(pid) - before_s[part]) / seconds
            peak_mib, after_mib = (memory_mib(pid, field) for field in ("VmHWM", "VmRSS"))
            memory = f"{before_mib[part]:.0f} MiB before, {peak_mib:.0f} MiB at most, {after_mib:.0f} MiB after"
            print(f"  {part}: {share:.0%} of a core; {memory}")
        found = client.pipeline(transaction=False)
        for job in client.scan_iter("stems:job:*", count=1000):
            found.hget(job, "state")
        assert found.execute() == ["done"] * SONGS
    client.close()
