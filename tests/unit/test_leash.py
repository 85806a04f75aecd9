"""The leash: what a child that reads a stranger's file may use, and what it knows of us."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from stems.separate import audio, leash, tags
from stems.separate.encode import Encoder, Encoding
from tests.audio import RATE_HZ, make


def test_no_child_has_the_environment_of_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song, told, program = make(tmp_path / "song.wav", duration_s=1), tmp_path / "told", tmp_path / "program"
    program.write_text(f'#!/bin/sh\n(env; echo END) >> "{told}"\nexec {audio.ffmpeg()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    for name in ("STEMS_S3_SECRET_KEY", "STEMS_REDIS_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "known to the worker alone")

    tags.read(song, tmp_path / "cover.jpg")
    audio.decode(song, tmp_path / "stem.f32", sample_rate_hz=RATE_HZ, channels=2)
    with Encoder([Encoding(tmp_path / "stem.f32", tmp_path / "stem.wav", "wav", {})], RATE_HZ, 2) as encoder:
        encoder.finish(np.fromfile(tmp_path / "stem.f32", "<f4").size // 2)

    *children, rest = told.read_text().split("END\n")
    assert (len(children), rest) == (4, "")  # of tags, of channels, the decoder, the encoder
    for child in children:
        assert "PATH=" in child
        # What the shell of the program above adds by itself.
        known = {line.partition("=")[0] for line in child.splitlines()} - {"PWD", "OLDPWD", "SHLVL", "_"}
        assert known <= {"PATH", "LD_LIBRARY_PATH"}


def test_no_file_of_a_child_grows_large(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        done = subprocess.run(leash.leashed(["head", "-c", "100000000", "/dev/zero"], 5), stdout=file, check=False)
    assert done.returncode != 0
    assert (tmp_path / "file").stat().st_size == 8 << 20
