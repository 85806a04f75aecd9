"""Programs that tests start. A missing one skips a test on a laptop and fails it where `CI` is set."""

import os
import shutil
from pathlib import Path

import pytest

from stems.separate.audio import ffmpeg

# `make setup` builds minio and mc into the first, and pip puts console scripts into the second.
CHECKOUT = Path(__file__).resolve().parents[1]
FOLDERS = (CHECKOUT / ".stems" / "bin", CHECKOUT / ".venv" / "bin")


def need(name: str) -> str:
    """Return the path of a program, or skip the calling test (fail it in CI)."""
    if name == "ffmpeg":  # a Python package brings it
        return ffmpeg()
    folders = [*map(str, FOLDERS), os.environ.get("PATH", "")]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        message = f"{name} is not installed: run `make setup`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
