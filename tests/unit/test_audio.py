"""Decoding: what a musician may upload. The files are made by ffmpeg."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stems.errors import BadAudio
from tests.audio import CODECS, RATE_HZ, ffmpeg, make, read

# Good files whose headers promise nothing, or the wrong thing.
UNDECLARED = {
    "vbr.mp3": ("-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0"),
    "song.aac": ("-c:a", "aac"),
    "song.wma": ("-c:a", "wmav2"),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_usual_format_is_read_whole(name: str, tmp_path: Path) -> None:
    song = read(make(tmp_path / name, *CODECS[name]), tmp_path)
    assert song.duration_s == pytest.approx(4, abs=0.06)
    assert song.read(0, song.length).shape == (2, song.length)


@pytest.mark.parametrize("name", UNDECLARED)
def test_a_file_that_declares_no_length_is_read(name: str, tmp_path: Path) -> None:
    song = read(make(tmp_path / name, *UNDECLARED[name]), tmp_path)
    assert song.duration_s == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0])
def test_a_wav_written_to_a_pipe_is_read(size: int, tmp_path: Path) -> None:
    path = make(tmp_path / "song.wav", "-fflags", "+bitexact", "-c:a", "pcm_s16le")
    data = bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    struct.pack_into("<I", data, 4, min(size + 36, 0xFFFFFFFF))
    struct.pack_into("<I", data, 40, size)
    path.write_bytes(data)
    assert read(path, tmp_path).duration_s == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize("name", ["song.mp3", "song.flac", "song.ogg", "faststart.m4a", "song.wav"])
def test_a_damaged_byte_does_not_cost_the_song(name: str, tmp_path: Path) -> None:
    path = make(tmp_path / name, *CODECS[name], duration_s=20)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert read(path, tmp_path).duration_s == pytest.approx(20, abs=1.1)


def test_the_statistics_are_those_demucs_normalises_by(tmp_path: Path) -> None:
    song = read(make(tmp_path / "song.wav", "-af", "dcshift=0.2"), tmp_path)
    reference = song.read(0, song.length).double().mean(0)
    assert song.mean == pytest.approx(float(reference.mean()), rel=1e-6)
    assert song.deviation == pytest.approx(float(reference.std()), rel=1e-6)


def test_samples_are_exact_and_readable_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    wav = np.random.default_rng(0).uniform(-1, 1, (300_000, 2)).astype("float32")
    soundfile.write(path, wav, RATE_HZ, "FLOAT")
    song = read(path, tmp_path)
    assert song.length == 300_000
    assert torch.equal(song.read(12_345, 280_001), torch.from_numpy(wav[12_345:280_001].T))
    assert song.read(7, 7).shape == (2, 0)


@pytest.mark.parametrize("name", ["mono.wav", "mono.mp3"])
def test_mono_is_duplicated_at_full_level(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", "aevalsrc=0.5*sin(440*2*PI*t):s=44100:d=2", str(path))
    song = read(path, tmp_path)
    left, right = song.read(0, song.length)
    assert torch.equal(left, right)
    assert float(left[RATE_HZ:].abs().max()) == pytest.approx(0.5, rel=0.1)


def test_a_mono_model_gets_one_channel(tmp_path: Path) -> None:
    song = read(make(tmp_path / "song.wav"), tmp_path, channels=1)
    assert song.read(0, 10).shape == (1, 10)
    assert song.duration_s == 4


def test_surround_is_downmixed_with_its_centre_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "surround.flac"
    channels = "|".join(["0", "0", "0.5*sin(440*2*PI*t)", "0", "0", "0"])
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc={channels}:s=44100:d=1:c=5.1", str(path))
    left, right = read(path, tmp_path).read(0, RATE_HZ)
    assert torch.equal(left, right)
    assert float(left.abs().max()) == pytest.approx(0.5 * 0.7071, rel=0.01)


@pytest.mark.parametrize("rate_hz", [8000, 48000, 96000])
def test_other_rates_are_resampled_to_the_models(rate_hz: int, tmp_path: Path) -> None:
    song = read(make(tmp_path / "song.wav", "-ar", str(rate_hz)), tmp_path)
    assert song.sample_rate_hz == RATE_HZ
    assert song.duration_s == pytest.approx(4, abs=0.002)
    spectrum = np.abs(np.fft.rfft(song.read(0, 2 * RATE_HZ)[1].numpy()))
    assert spectrum.argmax() == 600  # 300 Hz in two seconds


@pytest.mark.parametrize(
    "name", ["-y.wav", "Sigur Rós – Ágætis “byrjun”.wav", "a:b%03d.wav", "file:x.wav", "歌 🎵.flac"]
)
def test_any_file_name_is_read(name: str, tmp_path: Path) -> None:
    assert read(make(tmp_path / name), tmp_path).duration_s == 4


def test_a_relative_path_with_a_leading_dash_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path / "-vn.wav").parent)
    assert read(Path("-vn.wav"), tmp_path).duration_s == 4


def test_cover_art_is_ignored(tmp_path: Path) -> None:
    plain, art, path = make(tmp_path / "plain.mp3"), tmp_path / "art.png", tmp_path / "cover.mp3"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-frames:v", "1", str(art))
    ffmpeg("-i", str(plain), "-i", str(art), "-map", "0", "-map", "1", "-c", "copy", str(path))
    assert read(path, tmp_path).duration_s == pytest.approx(4, abs=0.06)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadAudio, match="truncated"):
        read(path, tmp_path)


def test_the_sound_of_a_longer_video_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", "-f", "lavfi", "-i", "color=red:s=64x64:d=8", "-map", "0", "-map", "1")
    assert read(path, tmp_path).duration_s == pytest.approx(4, abs=0.06)


def test_digital_silence_is_read(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=44100:cl=stereo:d=1", str(path))
    song = read(path, tmp_path)
    assert (song.length, song.mean, song.deviation) == (RATE_HZ, 0, 0)


def test_one_sample_is_a_song(tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, [[0.5, 0.5]], RATE_HZ)
    song = read(path, tmp_path)
    assert (song.length, song.deviation) == (1, 0)


def test_samples_that_are_no_numbers_become_silence(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    wav = np.full((RATE_HZ, 2), 0.25, "float32")
    wav[100], wav[200] = np.nan, np.inf
    soundfile.write(path, wav, RATE_HZ, "FLOAT")
    samples = read(path, tmp_path).read(0, RATE_HZ)
    assert samples[:, [100, 200]].eq(0).all()
    assert samples.eq(0.25).sum() == 2 * (RATE_HZ - 2)


def with_a_spike(path: Path, value: float) -> Path:
    """Write a song whose sample after 2 s, on the right, has this value."""
    wav = np.full((3 * RATE_HZ, 2), 0.25, "float32")
    wav[2 * RATE_HZ, 1] = value
    soundfile.write(path, wav, RATE_HZ, "FLOAT")
    return path


@pytest.mark.parametrize("value", [3e38, -1.1e5])
def test_a_sample_that_no_music_reaches_is_told(value: float, tmp_path: Path) -> None:
    with pytest.raises(BadAudio, match=r"the sample at 2\.000 s is (3e\+38, 770|-1\.1e\+05, 101) dB over full scale"):
        read(with_a_spike(tmp_path / "song.wav", value), tmp_path)


@pytest.mark.parametrize("value", [32768.0, -9.9e4])
def test_floats_on_the_scale_of_integers_are_a_song(value: float, tmp_path: Path) -> None:
    song = read(with_a_spike(tmp_path / "song.wav", value), tmp_path)
    assert song.read(2 * RATE_HZ, 2 * RATE_HZ + 1).tolist() == [[0.25], [pytest.approx(value)]]


def test_a_song_of_just_the_limit_is_read(tmp_path: Path) -> None:
    assert read(make(tmp_path / "song.flac"), tmp_path, max_duration_s=4).duration_s == 4
