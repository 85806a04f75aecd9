"""What a kubelet is told of the relay: by a process of its own, as in a pod."""

import os
import signal
import subprocess
import sys
import time

import pytest

from stems import naming
from tests.relay_stack import QUICK, Stack, ended
from tests.servers import free_port, until


def probe(stack: Stack, question: str, **settings: str) -> int:
    environ = os.environ | stack.environ | QUICK | settings
    return subprocess.run([sys.executable, "-m", "stems_relay.probe", question], env=environ, check=False).returncode


@pytest.mark.parametrize("question", ["live", "ready"])
def test_a_relay_that_beats_passes_and_one_that_hangs_does_not(stack: Stack, question: str) -> None:
    assert probe(stack, question) == 1, "no relay yet"
    relay = stack.relay()
    assert probe(stack, question) == 0
    relay.send_signal(signal.SIGSTOP)
    until(lambda: probe(stack, question) == 1)
    relay.send_signal(signal.SIGCONT)
    until(lambda: probe(stack, question) == 0)
    ended(relay, signal.SIGTERM)
    assert probe(stack, question) == 1


def test_the_relay_of_another_host_does_not_count(stack: Stack) -> None:
    stack.redis.zadd(naming.RELAYS, {"another-host-1-abcdef": time.time() * 1000 + 60_000})
    assert probe(stack, "live") == 1


def test_with_redis_away_the_relay_is_alive_and_not_ready(stack: Stack) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    assert probe(stack, "live", STEMS_REDIS_URL=away) == 0
    assert probe(stack, "ready", STEMS_REDIS_URL=away) == 1


def test_another_question_is_refused(stack: Stack) -> None:
    assert probe(stack, "well") == 2
