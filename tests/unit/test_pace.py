"""The time that is left."""

from stems.separate.pace import Pace


def test_the_time_left_goes_by_the_segments_after_the_first() -> None:
    now = [100.0]
    pace = Pace(5, lambda: now[0])
    assert pace.left_s(0) is None
    now[0] += 10  # the first one is slow
    assert pace.left_s(1) == 40
    now[0] += 2
    assert pace.left_s(2) == 6
    now[0] += 4
    assert pace.left_s(3) == 6
    now[0] += 3
    assert pace.left_s(5) == 0
