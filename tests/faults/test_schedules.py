"""The short form of `make test-faults`: a few schedules, whose faults are among the nastiest; and what a seed means."""

import pytest

from tests.faults.faults import FAULTS
from tests.faults.schedule import Outcome, Schedule
from tests.faults.stack import Stack
from tests.faults.table import table

# A schedule that waits in vain is to say what for.
pytestmark = pytest.mark.timeout(900)
_NAMES = [fault.name for fault in FAULTS]
SEEDS = {
    name: _NAMES.index(name)
    for name in ("worker killed before the record", "relay killed before the answer is entered", "Redis: FLUSHALL")
}


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS.keys())
def test_nothing_is_lost_and_nothing_doubled(stack: Stack, seed: int) -> None:
    outcome = Schedule(stack, seed, beside=0).run()
    assert not outcome.problems
    assert outcome.struck, f"too late: {outcome.missed}"


def test_a_seed_means_the_same_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every machine, and whichever of the faults is quicker this time."""
    monkeypatch.setattr(stack, "small_disks", False)
    one = Schedule(stack, 29)
    monkeypatch.setattr(stack, "small_disks", True)
    other = Schedule(stack, 29)
    assert [each.name for each in one.faults] == [each.name for each in other.faults]
    assert one.faults[0].needs_disks
    first, second = one.of(0), one.of(1)
    drawn = [first.random.random(), first.song().songhash, second.random.random(), second.song().songhash]
    first, second = other.of(0), other.of(1)
    assert [second.random.random(), second.song().songhash] == drawn[2:]
    assert [first.random.random(), first.song().songhash] == drawn[:2]
    assert len(set(drawn)) == 4


def test_what_a_machine_cannot_do_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "small_disks", False)
    outcome = Schedule(stack, _NAMES.index("the workers' disks full"), beside=0).run()
    assert outcome.skipped == ["the workers' disks full"]
    assert not outcome.struck
    assert not outcome.problems
    assert outcome.delay_s > 0


def test_the_table_counts_a_schedule_for_each_of_its_faults() -> None:
    found = [
        Outcome(1, ["Redis killed", "MinIO killed"], problems=["a", "b"], doubled=1, delay_s=3),
        Outcome(2, ["Redis killed"], delay_s=5),
    ]
    lines = table(found).splitlines()
    assert "| Redis killed | 2 | 2 | 1 | 5 s |" in lines
    assert "| MinIO killed | 1 | 2 | 1 | 3 s |" in lines
    assert "| a way reset | 0 | 0 | 0 | 0 s |" in lines
