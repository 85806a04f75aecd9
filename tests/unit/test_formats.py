"""What people send is as long as it was, and begins where it began, to the sample: whatever the format."""

from pathlib import Path

import pytest

from tests.formats import LOSSLESS, LOSSY, RATE_HZ, cases
from tests.programs import need

TRIED_HZ = {8000, 44100, 48000, 192_000}
FORMATS = [*LOSSLESS, *LOSSY]


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("format", FORMATS)
def test_a_song_is_read_whole_and_where_it_is(format: str, channels: int, tmp_path: Path) -> None:
    need("ffmpeg")
    for case in cases(LOSSLESS | LOSSY):
        if case.format == format and case.channels == channels and case.rate_hz in TRIED_HZ:
            song = case.decoded(tmp_path)
            assert abs(case.error(song)) < (1 if case.rate_hz != RATE_HZ else 1e-9), case
            assert max(map(abs, case.clicks(song))) <= 0.5, case
