"""One breakable stack for all tests of this folder; it starts where the first of them needs it."""

from collections.abc import Iterator

import pytest

from tests.faults.stack import ATTEMPTS, Stack
from tests.programs import need
from tests.servers import until


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    for program in ("minio", "redis-server", "ffmpeg"):
        need(program)
    # As many attempts as in life: what makes a dead letter is tested here, too.
    with Stack(tmp_path_factory.mktemp("faults"), STEMS_MAX_ATTEMPTS=str(ATTEMPTS)) as stack:
        yield stack


@pytest.fixture(autouse=True)
def calm(stack: Stack) -> Iterator[None]:
    yield
    stack.calm()
    until(stack.redis.ping)
    assert not stack.refused(), "events/users.conf allows less than the parts need"
