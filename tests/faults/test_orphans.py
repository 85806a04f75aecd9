"""A song that goes away while its worker lies dead between stems and record leaves nothing behind."""

import re
import signal

import pytest

from tests.faults import checker, songs
from tests.faults.run import WORKERS
from tests.faults.stack import ORPHAN_S, Stack, wait
from tests.proxy import Trigger

# The waits below are longer than the usual limit of a test.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
_RECORD = re.compile(rb"^PUT /output/[0-9a-f]{64}\.json")


@pytest.mark.parametrize("how", ["removed", "overwritten"])
def test_stems_that_nobody_needs_any_more_are_removed(stack: Stack, how: str) -> None:
    uploader = stack.uploader(f"orphan-{how}-")
    triggers = []

    def kill(part: str) -> None:
        stack.parts[part].send(signal.SIGKILL)
        if how == "removed":
            uploader.remove(upload)
        else:
            uploader.put("one", songs.make("another"))

    for part in WORKERS:
        triggers.append(Trigger(_RECORD, lambda part=part: kill(part)))  # type: ignore[misc]
        stack.proxies[f"{part}-minio"].triggers.append(triggers[-1])
    upload = uploader.put("one", songs.make(how))
    assert wait(lambda: any(trigger.fired.is_set() for trigger in triggers), 200)
    for part in WORKERS:
        stack.proxies[f"{part}-minio"].triggers.clear()

    def found() -> list[str]:
        return checker.problems(stack.root, uploader.now.values(), uploader.accepted, stack.known)

    assert len([each for each in found() if f"{checker.ORPHAN}: {upload.song.songhash}" in each]) == 4
    assert wait(lambda: not found(), ORPHAN_S + 200, 1), found()
