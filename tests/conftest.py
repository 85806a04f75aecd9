"""The whole pipeline, real and started once: MinIO, Redis, relay, separate and tracks on free ports."""

import signal
from collections.abc import Iterator

import pytest

from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.pipeline import Pipeline
from tests.programs import need

# Faults are to be over in seconds, not in the times that suit a cluster.
QUICK = {
    "STEMS_MODEL": "untrained",
    "STEMS_HEARTBEAT_S": "0.5",
    "STEMS_LEASE_S": "2",
    "STEMS_BACKOFF_S": "0.2",
    "STEMS_BACKOFF_MAX_S": "2",
    "STEMS_SWEEP_S": "5",
}

# Tests that run only when their marker is asked for.
OPT_IN = {
    "bench": "make bench",
    "faults": "make test-faults",
    "images": "make test-images",
    "cluster": "make test-cluster",
}


def pytest_configure() -> None:
    """Let children end by Ctrl-C and hang-up, also where a shell or nohup has us ignore these, as they then would."""
    for each in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(each) == signal.SIG_IGN:
            signal.signal(each, lambda *_: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what only runs when it is asked for."""
    for marker, command in OPT_IN.items():
        if marker in str(config.option.markexpr):
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"only by `{command}`"))


@pytest.fixture(scope="session")
def programs() -> Programs:
    return Programs(minio=need("minio"), mc=need("mc"), redis=need("redis-server"))


@pytest.fixture(scope="session")
def pipeline(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    need("stems")
    stack = Stack(tmp_path_factory.mktemp("pipeline"), programs, QUICK)
    stack.start()
    pipeline = Pipeline(stack)
    yield pipeline
    refused = pipeline.refused()
    pipeline.close()
    stack.stop()
    assert not refused, "events/users.conf allows less than the parts need"
