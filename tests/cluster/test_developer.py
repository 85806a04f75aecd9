"""A relay and a function on this machine work with the rest in the cluster, as deploy-local-dev.sh tells people to."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.deployment import Deployment, Service
from tests.cluster.songs import lasting
from tests.pipeline import wait_for
from tests.programs import need
from tests.servers import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@contextmanager
def running(log: Path, environ: dict[str, str], *command: str) -> Iterator[None]:
    """Run `stems` with this environment until the end of the block."""
    with log.open("wb") as file:
        process = subprocess.Popen([need("stems"), *command], env=environ, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def test_a_relay_and_a_function_outside(deployment: Deployment, service: Service, tmp_path: Path) -> None:
    space, logs, port = deployment.space, (tmp_path / "relay", tmp_path / "separate"), free_port()
    key = "outside.mp3"
    relay = {**deployment.environ("relay"), "K_SINK": f"http://127.0.0.1:{port}"}
    separate = {**deployment.environ("separate"), "PATH": os.environ["PATH"]}
    space.kubectl("scale", "deployment/relay", "--replicas=0")
    wait_for("no relay", lambda: not space.pods("relay"), 120)
    try:
        with running(logs[1], separate, "serve", "separate", "--port", str(port)), running(logs[0], relay, "relay"):
            service.put(lasting(tmp_path / key, 20), key)
            track = service.done(key, deadline_s=300)
    finally:
        space.kubectl("scale", "deployment/relay", "--replicas=1")
        space.kubectl("rollout", "status", "deployment/relay", "--timeout=300s")
    assert track["key"] == key
    assert f'"key": "{key}"' in logs[1].read_text() or f"key={key}" in logs[1].read_text()
