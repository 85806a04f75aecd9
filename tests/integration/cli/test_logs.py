"""`stems logs`."""

import signal
import subprocess
from pathlib import Path

import redis

from stems import naming
from tests.cli import Service, program, run
from tests.servers import free_port, redis_command, until


def log(service: Service, *lines: str, length: int = 20) -> None:
    service.redis.pipeline().rpush(naming.LOG_TAIL, *lines).ltrim(naming.LOG_TAIL, -length, -1).execute()


def test_logs_shows_the_newest_lines(service: Service) -> None:
    log(service, *(f"12:00:0{i} relay    line {i}" for i in range(9)), "12:00:09 relay    ERROR odd\nTrace\033[2J")
    assert run("logs", "-n", "2").stdout == "12:00:08 relay    line 8\n12:00:09 relay    ERROR odd\nTrace�[2J\n"
    assert run("logs", "-n", "0").stdout == ""


def test_logs_follows_a_list_that_is_trimmed_and_emptied(service: Service) -> None:
    log(service, *(f"old {i}" for i in range(20)))
    with program("logs", "-n", "1", "-f", environ=service.environ) as running:
        assert running.stdout
        assert running.stdout.readline() == "old 19\n"
        seen = []
        for batch in range(3):  # the list keeps its length, and lines repeat
            log(service, f"batch {batch}", "same", "same")
            seen += [running.stdout.readline() for _ in range(3)]
        service.redis.flushall()
        log(service, "after the flood")
        seen.append(running.stdout.readline())
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=10)
    expected = [line for batch in range(3) for line in (f"batch {batch}\n", "same\n", "same\n")]
    assert seen == [*expected, "after the flood\n"]
    assert (running.returncode, rest, errors) == (130, "", "\n")


def test_logs_follows_a_redis_that_is_not_there_yet(service: Service, tmp_path: Path) -> None:
    port = free_port()
    environ = {**service.environ, "STEMS_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    with program("logs", "-f", environ=environ) as running:
        assert running.stdout
        assert running.stderr
        assert running.stderr.readline().endswith("; waiting for it\n")
        with subprocess.Popen(redis_command(port, "--dir", str(tmp_path)), stdout=subprocess.DEVNULL) as server:
            with redis.Redis(port=port) as client:
                until(lambda: client.rpush(naming.LOG_TAIL, "first"))
            assert running.stdout.readline() == "first\n"
            server.terminate()
        running.kill()
