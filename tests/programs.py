"""Programs that tests start. A missing one skips a test on a laptop and fails it where `CI` is set."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from stems.separate.audio import ffmpeg
from tests.data.songmaker.fonts import FONTS

# `make setup` builds minio and mc into the first, and pip puts console scripts into the second.
CHECKOUT = Path(__file__).resolve().parents[1]
FOLDERS = (CHECKOUT / ".stems" / "bin", CHECKOUT / ".venv" / "bin")
# What `make sounds` installs.
SOUNDS = ("espeak-ng", "fluidsynth")
# What others but `make setup` get.
TARGETS = {**dict.fromkeys(SOUNDS, "sounds"), "chromium": "browser", "kustomize": "manifests"}


def need_sounds() -> None:
    """Skip the calling test (fail it in CI) where the song maker has nothing to play on."""
    for name in SOUNDS:
        need(name)
    for name in ("fluid", "tim"):
        if not FONTS[name].path.is_file():
            _missing(str(FONTS[name].path), "sounds")


def need(name: str) -> str:
    """Return the path of a program, or skip the calling test (fail it in CI)."""
    if name == "ffmpeg":  # a Python package brings it
        return ffmpeg()
    folders = [*map(str, FOLDERS), os.environ.get("PATH", "")]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        _missing(name, TARGETS.get(name, "setup"))
    return path


def _missing(what: str, target: str) -> NoReturn:
    skip_or_fail(f"{what} is not installed: run `make {target}`")


def skip_or_fail(message: str) -> NoReturn:
    """Skip the calling test for want of something; fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
