"""The short form of `make test-faults`: a few schedules, whose faults are among the nastiest."""

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


def test_the_table_counts_a_schedule_for_each_of_its_faults() -> None:
    found = [
        Outcome(1, ["Redis killed", "MinIO killed"], problems=["a", "b"], doubled=1, delay_s=3),
        Outcome(2, ["Redis killed"], delay_s=5),
    ]
    lines = table(found).splitlines()
    assert "| Redis killed | 2 | 2 | 1 | 5 s |" in lines
    assert "| MinIO killed | 1 | 2 | 1 | 3 s |" in lines
    assert "| a way reset | 0 | 0 | 0 | 0 s |" in lines
