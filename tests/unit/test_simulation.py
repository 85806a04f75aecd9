"""The rule of the line for songs in parts, played through: who waits for whom, and for how long."""

import pytest

from stems_relay.part_scripts import TURN
from tests.bench.simulation import LENGTHS, LONG, SHORT, Cut, Song, Times, alone, behind, run, together

TIMES, CUT = Times(), Cut()


@pytest.mark.parametrize("pods", [1, 4])
@pytest.mark.parametrize("count", [3, 10])
def test_of_long_songs_that_come_at_once_the_first_is_there_after_its_share_of_the_time(pods: int, count: int) -> None:
    first, *_, last = together(pods, TIMES, CUT, count)
    decoded_s = count * LENGTHS[LONG] * TIMES.decode_per_s
    assert first < 1.15 * last / count + decoded_s


def test_ordinary_songs_wait_no_longer_behind_many_long_ones_than_behind_one() -> None:
    alone_s, one, three = (behind(1, TIMES, CUT, longs)[-1] for longs in (0, 1, 3))
    part_s = alone(CUT.part_s, 1, TIMES, CUT)
    # The part in work, and one for each TURN songs.
    assert max(one, three) < alone_s + 3 * part_s


@pytest.mark.parametrize("pods", [1, 4])
def test_neither_ordinary_nor_long_songs_starve(pods: int) -> None:
    each_s = alone(LENGTHS[SHORT], 1, TIMES, CUT)
    # More come than can be made, for as long as the test looks.
    songs = [Song(0, LENGTHS[LONG])] + [Song(number * each_s / pods / 1.1, LENGTHS[SHORT]) for number in range(1, 2000)]
    run(songs, pods, TIMES, CUT)
    long, shorts = songs[0], songs[1:]
    parts = LENGTHS[LONG] / CUT.part_s + 4  # and the files of its stems
    before = sum(song.ended <= long.ended for song in shorts)
    assert before <= TURN * (parts + 1) + pods
    assert long.ended < songs[-1].ended / 2
