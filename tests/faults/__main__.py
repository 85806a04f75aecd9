"""`make test-faults SEEDS=1-200` (`python -m tests.faults 1-200`): run schedules by their seeds, print the table."""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.schedule import Outcome, Schedule
from tests.faults.stack import Stack
from tests.faults.table import table


def seeds(text: str) -> list[int]:
    """Read `7`, `1-200` or `3,5,9-12`."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main() -> int:
    """Run the schedules; return 0 if nothing was lost in any."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("seeds", type=seeds, nargs="?", default=[], help="7, 1-200 or 3,5,9-12")
    parser.add_argument("--folder", type=Path, help="where MinIO, Redis and the logs live")
    about = "a file to which each outcome is added as a line of JSON; without seeds: print the table of what it holds"
    parser.add_argument("--outcomes", type=Path, help=about)
    given = parser.parse_args()
    if not given.seeds:
        read = [Outcome(**json.loads(line)) for line in given.outcomes.read_text().splitlines()]
        print(f"{table(read)}\n\n{_sum(read)}")
        return 0
    outcomes: list[Outcome] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with Stack(folder) as stack:
            for seed in given.seeds:
                outcome = Schedule(stack, seed).run()
                outcomes.append(outcome)
                print(_line(outcome), flush=True)
                if given.outcomes:
                    with given.outcomes.open("a") as file:
                        file.write(json.dumps(asdict(outcome)) + "\n")
    failed = [outcome.seed for outcome in outcomes if outcome.problems]
    print(f"\n{table(outcomes)}\n\n{_sum(outcomes)} {time.monotonic() - began:.0f} s.")
    for seed in failed:
        print(f"  again: make test-faults SEEDS={seed}")
    return 1 if failed else 0


def _sum(outcomes: list[Outcome]) -> str:
    count, failed = sum(each.songs for each in outcomes), sum(bool(each.problems) for each in outcomes)
    return f"{len(outcomes)} schedules, {count} uploads; {failed} schedules with something lost."


def _line(outcome: Outcome) -> str:
    missed = f"; came too late: {', '.join(outcome.missed)}" if outcome.missed else ""
    missed += f"; this machine cannot: {', '.join(outcome.skipped)}" if outcome.skipped else ""
    found = "".join(f"\n    {each}" for each in outcome.problems)
    return (
        f"seed {outcome.seed}: {', '.join(outcome.struck) or 'nothing'}{missed}: {outcome.songs} uploads,"
        f" worst delay {outcome.delay_s:.1f} s, doubled {outcome.doubled}, {outcome.took_s:.0f} s{found}"
    )


if __name__ == "__main__":
    sys.exit(main())
