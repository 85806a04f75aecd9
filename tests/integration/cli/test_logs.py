"""`stems logs`."""

import signal

from stems import naming
from tests.cli import Service, program, run


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
