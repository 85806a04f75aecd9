"""Progress: who works on a job hears that it was cancelled, and nothing of it is kept."""

from collections.abc import Callable

import pytest

from stems.errors import Cancelled
from stems.jobs import Jobs
from stems.separate.progress import Progress
from tests.servers import until


class Answering(Jobs):
    """Stands in for a Redis that says of every job that it was cancelled."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def update(self, job: str, **values: str | int | float) -> bool:
        self.told.append(job)
        return True


def is_cancelled(progress: Progress, job: str) -> Callable[[], bool]:
    def look() -> bool:
        try:
            progress.check(job)
        except Cancelled:
            return True
        return False

    return look


@pytest.mark.parametrize("job", ["0" * 32, f"p{'0' * 32}"])
def test_of_a_job_that_was_cancelled_nothing_is_kept(job: str) -> None:
    jobs = Answering()
    progress = Progress(jobs)
    with progress.followed(job):
        assert not is_cancelled(progress, job)()
        progress.tell(job, progress=0.5)
        until(is_cancelled(progress, job))
    progress.tell(job, progress=0.6)  # a late word
    until(lambda: len(jobs.told) == 2)
    with progress.followed(job):
        assert not is_cancelled(progress, job)(), "it was uploaded again"
    assert progress._followed == {}
