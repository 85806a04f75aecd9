"""What people send is as long as it was, and begins where it began, to the sample: whatever the format."""

from pathlib import Path

import pytest

from stems.errors import BadAudio
from tests.audio import read
from tests.formats import LOSSLESS, LOSSY, MASKS, RATE_HZ, cases, masked
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


@pytest.mark.parametrize("mask", MASKS)
def test_one_channel_is_mono_and_two_are_stereo_whatever_they_are_for(mask: str, tmp_path: Path) -> None:
    channels, bits, levels = MASKS[mask]
    path = masked(tmp_path / "song.wav", channels, bits)
    song = read(path, tmp_path)
    assert [side.unique().tolist() for side in song.read(0, song.length)] == [[level] for level in levels]
    assert song.length == 1000
    alone = read(path, tmp_path, channels=1).read(0, 1).item()
    assert alone == pytest.approx(0.5 if channels == 1 else sum(levels) / 2**0.5)  # as ffmpeg makes mono of stereo


@pytest.mark.parametrize(
    ("channels", "mask", "reason"),
    [
        (9, 0, "the file has 9 channels; up to 8 are mixed down"),
        (10, 0x3FF, "the file has 10 channels; up to 8 are mixed down"),
        (3, 0x411, "its channels are for loudspeakers that cannot be mixed down to two"),
    ],
)
def test_channels_that_cannot_be_mixed_down_are_told(channels: int, mask: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadAudio, match=f"^{reason}$"):
        read(masked(tmp_path / "song.wav", channels, mask), tmp_path)
