"""A worker is paused for longer than its lease, and another one takes its song: it wakes and finds the lease taken."""

import re
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.faults import checker, songs
from tests.faults.run import RELAYS, WORKERS
from tests.faults.stack import Stack, wait
from tests.proxy import Trigger

# The waits below are longer than the usual limit of a test.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
TAKEN = "another worker took the lease while this one was paused; going on"


@pytest.fixture
def sink(stack: Stack) -> Iterator[list[int]]:
    """The ports of the workers that get songs."""
    proxy = stack.proxies["sink"]
    before, proxy.targets = proxy.targets, [*proxy.targets]
    yield proxy.targets
    proxy.targets = before


def test_a_paused_worker_wakes_and_finds_its_lease_taken(stack: Stack, sink: list[int]) -> None:
    uploader, song = stack.uploader("lease-"), songs.make("lease", divided=False)
    stem = re.compile(rb"^PUT /output/" + song.songhash.encode() + rb"-\w+\.mp3")
    since = {part: stack.parts[part].log.stat().st_size for part in WORKERS}
    paused, woken = threading.Event(), threading.Event()
    order: list[str] = []

    def found() -> bool:
        return any(line.get("message") == TAKEN for line in stack.lines(order[0], since[order[0]]))

    def act(part: str) -> None:
        """Pause the first worker that has stems; wake it when the other one has some, too, which then waits."""
        order.append(part)
        if len(order) == 1:
            stack.parts[part].send(signal.SIGSTOP)
            sink.remove(stack.ports[part])  # as a platform does with a pod that does not answer
            paused.set()
        else:
            stack.parts[order[0]].send(signal.SIGCONT)
            if wait(found, 20):  # less long than the worker waits for the answer to its request
                woken.set()

    for part in WORKERS:
        trigger = Trigger(stem, lambda part=part: act(part), passes=True)  # type: ignore[misc]
        stack.proxies[f"{part}-minio"].triggers.append(trigger)
    upload = uploader.put("one", song)
    assert paused.wait(200)
    for name in RELAYS:  # whichever waits for the paused one's answer
        stack.parts[name].send(signal.SIGKILL)
    assert woken.wait(200), order
    for part in WORKERS:
        stack.proxies[f"{part}-minio"].triggers.clear()
    assert len(set(order)) == 2
    for part in WORKERS:
        begun = [line for line in stack.lines(part, since[part]) if line.get("message") == "separating"]
        assert [line["key"] for line in begun] == [upload.key], "both have worked on it"
    assert wait(lambda: not list(stack.redis.scan_iter("stems:lease:*")), 60), "both have let go"
    assert wait(lambda: checker.ended(stack.root, upload), 60)
    assert checker.problems(stack.root, [upload], [upload], stack.known) == []
