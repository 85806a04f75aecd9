"""One deployment for all tests on the cluster. What they see goes to the log: `make test-cluster` shows it."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.deployment import Deployment, Service
from tests.cluster.space import need_cluster

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def say() -> Say:
    """Print a line with the time since the first."""
    started = time.monotonic()

    def line(text: str) -> None:
        print(f"\n{time.monotonic() - started:7.1f} s  {text}", end="", flush=True)

    return line


@pytest.fixture(scope="session")
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, say: Say
) -> Iterator[Deployment]:
    need_cluster()
    deployment = Deployment(tmp_path_factory.mktemp("cluster"))
    say(f"deploying to the namespace {deployment.space.name}")
    try:
        seconds = deployment.start()
        say(f"the whole overlay, from nothing, applied and ready after {seconds:.0f} s")
        yield deployment
    finally:
        if request.session.testsfailed:
            say(deployment.space.kubectl("get", "pods,ksvc,revisions,events"))
            with contextlib.suppress(AssertionError):  # it may be what failed
                say(deployment.space.kubectl("logs", "deployment/logs", "--tail=200"))
        deployment.remove()


@pytest.fixture(scope="session")
def service(deployment: Deployment) -> Iterator[Service]:
    service = Service(deployment)
    yield service
    service.close()
