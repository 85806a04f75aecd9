"""The table of faults: what was tried how often, and what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.faults import FAULTS
from tests.faults.schedule import Outcome


@dataclass
class Row:
    """Sums over the schedules in which a fault struck."""

    tried: int = 0
    lost: int = 0
    doubled: int = 0
    delay_s: float = 0.0


def table(outcomes: Iterable[Outcome]) -> str:
    """Return the table in Markdown. A schedule counts for each of its faults; lost: whatever the checker found."""
    rows = {fault.name: Row() for fault in FAULTS}
    for outcome in outcomes:
        for name in outcome.struck:
            row = rows[name]
            row.tried += 1
            row.lost += len(outcome.problems)
            row.doubled += outcome.doubled
            row.delay_s = max(row.delay_s, outcome.delay_s)
    lines = ["| fault | tried | lost | doubled | worst delay |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row.tried} | {row.lost} | {row.doubled} | {row.delay_s:.0f} s |")
    return "\n".join(lines)
