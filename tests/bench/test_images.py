"""How large the container images are, and how long each takes from its start until it can work."""

import statistics
import time
import urllib.request
from pathlib import Path

import pytest
import redis

from tests.bench.machine import machine
from tests.containers import engine, inspect, run, running
from tests.minio_server import running as program
from tests.servers import free_port, redis_command, until

STARTS = 5
LARGEST = "du -sm /usr /opt/stems /opt/packages/lib/python3*/site-packages/* | sort -rn | head -8"


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_size_and_cold_start(tmp_path: Path) -> None:
    port = free_port()
    with program(*redis_command(port), log=tmp_path / "redis.log"), redis.Redis(port=port) as client:
        until(client.ping)
        print(f"\n{machine()}\n{STARTS} starts each, the image's files in memory; seconds from `{engine()} run`")
        for part, health in (("relay", ""), ("tracks", "/health/live"), ("separate", "/health/ready")):
            taken_s = [_start(part, health, client, port) for _ in range(STARTS + 1)][1:]
            size_mb = inspect(part)["Size"] / 1e6
            print(f"  {part:9} {size_mb:6.0f} MB   median {statistics.median(taken_s):5.2f}  least {min(taken_s):5.2f}")
        print("the largest parts of separate, MB\n" + run("separate", "sh", "-c", LARGEST))


def _start(part: str, health: str, client: "redis.Redis", redis_port: int) -> float:
    """Return the seconds that an image takes to be ready: by its health, the relay by its heartbeat."""
    client.flushall()
    port = free_port()
    environ = {"STEMS_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0", "K_SINK": "http://127.0.0.1:9/"}
    environ |= {"STEMS_S3_ACCESS_KEY": "nobody", "STEMS_S3_SECRET_KEY": "nothing"}
    environ |= {"PORT": str(port), "STEMS_TOKENS_FILE": "none"} if health else {}
    begun = time.monotonic()
    with running(part, **environ):
        if health:
            until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=5).close() or True, 60)
        else:
            until(lambda: client.exists("stems:relays"), 60)
        return time.monotonic() - begun
