"""Encoding: the files a musician gets have the song's length, level and tags."""

import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from stems.errors import EncodeFailed
from stems.options import FORMATS, QUALITIES
from stems.separate import headers
from stems.separate.encode import Encoder, Encoding
from tests.audio import ffmpeg
from tests.programs import need

RATE_HZ = 44100
EVERY = [f"{kind}-{quality}" for kind, qualities in QUALITIES.items() for quality in qualities]
LOSSLESS = {"flac-24": "PCM_24", "flac-16": "PCM_16", "wav-24": "PCM_24", "wav-16": "PCM_16", "wav-32f": "FLOAT"}


def tone(length: int, amplitude: float = 0.5) -> NDArray[np.float32]:
    time_s = np.arange(length) / RATE_HZ
    both = np.stack([np.sin(440 * 2 * np.pi * time_s), np.sin(300 * 2 * np.pi * time_s)], 1)
    return (amplitude * both).astype("<f4")


def job(folder: Path, wav: NDArray[np.float32], name: str, format: str = "", **tags: str) -> Encoding:
    need("ffmpeg")
    spool = folder / f"{Path(name).name}.f32"
    wav.tofile(spool)
    return Encoding(spool, folder / name, format or name.rsplit(".", 1)[1], tags)


def encode(*jobs: Encoding, length: int, rate_hz: int = RATE_HZ, channels: int = 2, **more: Any) -> None:
    with Encoder(jobs, rate_hz, channels, **more) as encoder:
        encoder.finish(length)


def decoded(path: Path) -> NDArray[np.float32]:
    return np.frombuffer(ffmpeg("-i", f"file:{path}", "-map", "0:a", "-f", "f32le", "pipe:1"), "<f4").reshape(-1, 2)


def error_db(found: NDArray[np.float32], wav: NDArray[np.float32]) -> float:
    return float(20 * np.log10(np.abs(found - wav)[:-600].std() / wav.std() + 1e-20))


@pytest.mark.parametrize("length", [16, 1000, 1152, 1153, 1198, 1199, 1152 * 50, 1152 * 50 + 20, 100_003])
def test_a_stem_is_as_long_as_the_song_to_the_sample(length: int, tmp_path: Path) -> None:
    wav = tone(length)
    jobs = [job(tmp_path, wav, f"{format}.{format.partition('-')[0]}", format) for format in EVERY]
    encode(*jobs, length=length)
    assert {each.format: len(decoded(each.out)) for each in jobs} == dict.fromkeys(EVERY, length)
    if length > 2000:
        for each in jobs:
            # Where it begins, too: a shift by one sample would be an error of -24 dB.
            most = {"mp": -26, "fl": -130, "wa": -130}[each.format[:2]] if "16" not in each.format else -90
            assert error_db(decoded(each.out), wav) < most, each.format


def test_32_bits_of_floating_point_are_the_stem_itself(tmp_path: Path) -> None:
    wav = tone(5000)
    task = job(tmp_path, wav, "stem.wav", "wav-32f")
    encode(task, length=5000)
    assert np.array_equal(decoded(task.out), wav)


@pytest.mark.parametrize("format", LOSSLESS)
def test_a_lossless_stem_has_the_bits_that_were_asked_for(format: str, tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), f"stem.{format.partition('-')[0]}", format)
    encode(task, length=5000)
    assert soundfile.info(task.out).subtype == LOSSLESS[format]


@pytest.mark.parametrize(("format", "subtype"), [("flac", "PCM_24"), ("wav", "PCM_24")])
def test_24_bits_are_usual(format: str, subtype: str, tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), f"stem.{format}")
    encode(task, length=5000)
    assert soundfile.info(task.out).subtype == subtype


def test_mp3_has_the_rate_that_was_asked_for(tmp_path: Path) -> None:
    wav = np.random.default_rng(0).uniform(-0.5, 0.5, (4 * RATE_HZ, 2)).astype("<f4")
    names = {"mp3": 320_000, "mp3-192": 192_000, "mp3-v0": None, "mp3-v4": None}
    jobs = {each: job(tmp_path, wav, f"{each}.mp3", each) for each in names}
    encode(*jobs.values(), length=len(wav))
    rates = {each: task.out.stat().st_size * 8 / 4 for each, task in jobs.items()}
    for each, rate in names.items():
        head = jobs[each].out.read_bytes()[:1000]
        assert (b"Info" if rate else b"Xing") in head
        assert rate is None or rates[each] == pytest.approx(rate, rel=0.03)
    assert rates["mp3-v4"] < rates["mp3-v0"] < 320_000


def test_the_delay_of_an_mp3_is_in_its_header(tmp_path: Path) -> None:
    task = job(tmp_path, tone(RATE_HZ), "stem.mp3")
    encode(task, length=RATE_HZ)
    data = task.out.read_bytes()
    at = data.index(b"Info") + 141
    delay, padding = int.from_bytes(data[at : at + 3], "big") >> 12, int.from_bytes(data[at : at + 3], "big") & 0xFFF
    assert delay > 0
    assert (RATE_HZ + delay + padding) % 1152 == 0
    assert headers.read(task.out) == headers.Sound(RATE_HZ, RATE_HZ)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100])
def test_the_header_of_an_mp3_is_whole_where_it_had_to_be_mended(rate_hz: int, channels: int, tmp_path: Path) -> None:
    frame = 1152 if rate_hz > 32000 else 576
    for length in (4 * frame + 20, 4 * frame + 300):
        task = job(tmp_path, tone(length)[:, :channels], "stem.mp3")
        encode(task, length=length, rate_hz=rate_hz, channels=channels)
        assert len(ffmpeg("-i", str(task.out), "-f", "f32le", "pipe:1")) == length * channels * 4
        if rate_hz == 44100 and channels == 2:  # for others ffmpeg counts further than LAME
            data = task.out.read_bytes()
            start, tag = data.index(b"\xff\xfb"), data.index(b"Info")
            assert int.from_bytes(data[tag + 154 : tag + 156], "big") == headers._crc(data[start : tag + 154])


def test_the_gain_is_applied_before_anything_clips(tmp_path: Path) -> None:
    wav = tone(RATE_HZ, amplitude=2)
    task = job(tmp_path, wav, "stem.flac")
    encode(task, length=len(wav), gain=0.25)
    np.testing.assert_allclose(decoded(task.out), wav * 0.25, atol=2e-7)


@pytest.mark.parametrize("format", FORMATS)
def test_tags_are_written(format: str, tmp_path: Path) -> None:
    tags = {"title": "Für Élise = 愛 \0\n; #1", "comment": "made by stems"}
    task = job(tmp_path, tone(5000), f"stem.{format}", **tags)
    encode(task, length=5000)
    text = ffmpeg("-i", str(task.out), "-f", "ffmetadata", "pipe:1").decode()
    assert "title=Für Élise \\= 愛" in text
    assert "comment=made by stems" in text


def test_the_cover_is_in_the_formats_that_can_hold_one(tmp_path: Path) -> None:
    cover = tmp_path / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-frames:v", "1", str(cover))
    jobs = [job(tmp_path, tone(5000), f"stem.{format}") for format in FORMATS]
    encode(*jobs, length=5000, cover=cover)
    found = {each.format: cover.read_bytes() in each.out.read_bytes() for each in jobs}
    assert found == {"mp3": True, "flac": True, "wav": False}
    assert [len(decoded(each.out)) for each in jobs] == [5000] * 3


def test_files_are_made_while_the_stems_still_grow(tmp_path: Path) -> None:
    wav = np.random.default_rng(0).uniform(-0.5, 0.5, (20 * RATE_HZ, 2)).astype("<f4")
    jobs = [job(tmp_path, wav[:0], f"{stem}.wav") for stem in ("vocals", "no_vocals")]
    first, second = (each.spool.open("ab") for each in jobs)
    with first, second, Encoder(jobs, RATE_HZ, 2) as encoder:
        for start, stop in itertools.pairwise(range(0, len(wav) + 1, RATE_HZ)):
            first.write(wav[start:stop].data)
            second.write((-wav[start:stop]).tobytes())
            first.flush()
            second.flush()
            encoder.grow(stop)
        deadline = time.monotonic() + 60
        while sum(each.out.stat().st_size if each.out.exists() else 0 for each in jobs) < 5_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        told: list[float] = []
        encoder.finish(len(wav), told.append)
    np.testing.assert_allclose(decoded(jobs[0].out), wav, atol=2e-7)
    np.testing.assert_allclose(decoded(jobs[1].out), -wav, atol=2e-7)
    assert told == sorted(told)


def test_other_rates_channels_and_names_are_encoded(tmp_path: Path) -> None:
    for rate_hz, channels in ((8000, 2), (22050, 1), (48000, 2)):
        wav = tone(8000)[:, :channels]
        jobs = [job(tmp_path, wav, f"-Sigur Rós: 100%03d.{format}") for format in FORMATS]
        encode(*jobs, length=8000, rate_hz=rate_hz, channels=channels)
        assert [headers.read(each.out) for each in jobs] == [headers.Sound(8000, rate_hz)] * 3


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), "stem.wav")
    task.out.write_text("old")
    encode(task, length=5000)
    assert len(decoded(task.out)) == 5000


def test_a_failed_encoding_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    good, bad = job(tmp_path, tone(10), "good.mp3"), job(tmp_path, tone(10), "missing/stem.mp3")
    with pytest.raises(EncodeFailed, match=r"could not write the stems: .*"):
        encode(good, bad, length=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.mp3.f32", "stem.mp3.f32"]


def test_a_killed_encoder_is_told(tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), "stem.mp3")
    with Encoder([task], RATE_HZ, 2) as encoder:
        os.kill(encoder._child.pid, signal.SIGKILL)
        with pytest.raises(EncodeFailed, match=r"could not write the stems"):
            encoder.finish(5000)
    assert not task.out.exists()


@pytest.mark.parametrize("format", EVERY)
def test_a_file_that_is_not_as_long_as_its_stem_is_refused(format: str, tmp_path: Path) -> None:
    task = job(tmp_path, tone(4999), f"stem.{format.partition('-')[0]}", format)
    with pytest.raises(EncodeFailed, match=r"stem\.\w+ has 4999 samples at 44100 Hz; the stem has 5000"):
        encode(task, length=5000)
    assert not task.out.exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_cut_is_no_file_of_ours(format: str, tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), f"stem.{format}")
    encode(task, length=5000)
    data = task.out.read_bytes()
    for size in (0, 3, 20) + (() if format == "flac" else (len(data) - 1,)):
        task.out.write_bytes(data[:size])
        for read in (headers.read, *((lambda path: headers.mend_mp3(path, 5000),) if format == "mp3" else ())):
            with pytest.raises(ValueError, match=r"\w"):
                read(task.out)


@pytest.mark.parametrize(("at", "byte"), [(1, 0xEB), (2, 0xFC)])  # a version and a rate that there are not
def test_an_odd_mp3_is_told_and_leaves_no_file(
    at: int, byte: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, mend = job(tmp_path, tone(5000), "stem.mp3"), headers.mend_mp3

    def odd(path: Path, length: int) -> None:
        data = bytearray(path.read_bytes())
        data[data.index(b"\xff\xfb") + at] = byte
        path.write_bytes(data)
        mend(path, length)

    monkeypatch.setattr(headers, "mend_mp3", odd)
    with pytest.raises(
        EncodeFailed, match=r"stem\.mp3 was not written as it should be: stem.mp3 is no \.mp3 file of ours"
    ):
        encode(task, length=5000)
    assert not task.out.exists()


def test_an_encoder_that_is_stopped_leaves_no_child_and_no_thread(tmp_path: Path) -> None:
    wav, before = tone(30 * RATE_HZ), threading.active_count()
    task = job(tmp_path, wav, "stem.mp3")
    with Encoder([task], RATE_HZ, 2) as encoder:
        encoder.grow(len(wav))
    assert encoder._child.returncode == -signal.SIGKILL
    assert threading.active_count() == before
    with Encoder([task], RATE_HZ, 2) as encoder:  # which waits for more than there is
        encoder.grow(10)
        encoder.stop()
    assert threading.active_count() == before
