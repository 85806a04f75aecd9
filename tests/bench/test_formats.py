"""Every format, rate and number of channels that people send: how many samples longer or shorter it is read."""

from collections import defaultdict
from pathlib import Path

import pytest

from tests.bench.machine import machine
from tests.formats import LOSSLESS, LOSSY, cases
from tests.programs import need


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_the_length_of_every_format(tmp_path: Path) -> None:
    need("ffmpeg")
    errors: dict[tuple[str, int], list[float]] = defaultdict(list)
    shifts: dict[tuple[str, int], float] = defaultdict(float)
    rates: dict[tuple[str, int], list[int]] = defaultdict(list)
    for case in cases(LOSSLESS | LOSSY):
        song, row = case.decoded(tmp_path), (case.format, case.channels)
        errors[row].append(case.error(song))
        shifts[row] = max(shifts[row], *map(abs, case.clicks(song)))
        rates[row].append(case.rate_hz)
    print(f"\n{machine()}")
    print("| format | channels | rates, Hz | length error, samples | shift, samples |\n|---|---|---|---|---|")
    for row, found in errors.items():
        span = f"{min(rates[row])} to {max(rates[row])} ({len(rates[row])})"
        print(f"| {row[0]} | {row[1]} | {span} | {min(found):.2f} to {max(found):.2f} | {shifts[row]:.2f} |")
