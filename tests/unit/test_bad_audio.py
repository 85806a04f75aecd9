"""Decoding: what is refused, with which words, and what that leaves behind."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stems.errors import BadAudio, TransientError
from stems.separate.audio import decode
from tests.audio import CODECS, RATE_HZ, ffmpeg, make, read


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("part", [0.4, 0.85])
def test_a_truncated_file_is_refused(name: str, part: float, tmp_path: Path) -> None:
    path = make(tmp_path / name, *CODECS[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BadAudio, match="truncated"):
        read(path, tmp_path)


def test_a_truncated_file_is_told_in_minutes(tmp_path: Path) -> None:
    path = make(tmp_path / "song.flac", "-c:a", "flac", duration_s=62)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadAudio, match=r"it declares 1:02 but only 0:3\d could be decoded"):
        read(path, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"^the file is empty \(0 bytes\)$"),
        (b"Dear band, see you on Friday.\n" * 100, "^not an audio file"),
        (b"\x00" * 5000, "^not an audio file"),
        (b"RIFF", "^not an audio file"),
        (bytes(np.random.default_rng(1).integers(0, 256, 30_000, "uint8")), "^not an audio file"),
    ],
    ids=["empty", "text", "zeros", "riff", "random"],
)
def test_what_is_no_audio_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    with pytest.raises(BadAudio, match=reason) as caught:
        read(path, tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-frames:v", "1", str(path))
    with pytest.raises(BadAudio, match="not an audio file"):
        read(path, tmp_path)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", str(path))
    with pytest.raises(BadAudio, match="^the file has no audio stream$"):
        read(path, tmp_path)


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nothing.wav"
    soundfile.write(path, np.zeros((0, 2)), RATE_HZ)
    with pytest.raises(BadAudio):
        read(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"),
        ("list.mp3", "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile {}\n"),
    ],
)
def test_a_playlist_cannot_read_another_file(name: str, text: str, tmp_path: Path) -> None:
    make(tmp_path / "secret.mp3", "-c:a", "libmp3lame")
    path = tmp_path / name
    path.write_text(text.format("secret.mp3"))
    with pytest.raises(BadAudio, match="not an audio file"):
        read(path, tmp_path)
    assert (tmp_path / "spool.f32").stat().st_size == 0


def test_a_song_over_the_limit_is_refused_early(tmp_path: Path) -> None:
    path = make(tmp_path / "song.flac", duration_s=60)
    with pytest.raises(BadAudio, match=r"STEMS_MAX_DURATION_S allows \(0:02\)"):
        read(path, tmp_path, max_duration_s=2)
    assert (tmp_path / "spool.f32").stat().st_size < 10 * RATE_HZ * 8


def test_no_child_is_left_behind(tmp_path: Path) -> None:
    path = make(tmp_path / "song.flac", duration_s=60)
    with pytest.raises(BadAudio):
        read(path, tmp_path, max_duration_s=1)
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "comm="], capture_output=True)
    assert b"ffmpeg" not in children.stdout


@pytest.mark.parametrize(("name", "error"), [("SEGV", BadAudio), ("KILL", TransientError)])
def test_a_decoder_that_dies_is_told_from_a_good_one(
    name: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(b"song")
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\nprintf '\\000\\000\\000'\nkill -{name} $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(error, match=r"signal 11|killed"):
        decode(path, tmp_path / "spool.f32", sample_rate_hz=RATE_HZ, channels=2)
