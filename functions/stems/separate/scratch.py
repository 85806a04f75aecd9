"""Folders for the audio that a worker has in work. What a worker leaves when it is killed, the next one removes."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "stems-"


def folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder below TMPDIR that goes when its context ends; its name tells whose it is."""
    return tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-")


def clean() -> None:
    """Remove the folders of workers that are dead. To be called before this process makes its first."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}[0-9]*-*"):
        pid = int(path.name.removeprefix(_PREFIX).split("-")[0])
        # In a container every worker has the same id: a folder of ours from before we began is a dead one's.
        if pid == os.getpid() or not _lives(pid):
            shutil.rmtree(path, ignore_errors=True)


def _lives(pid: int) -> bool:
    with suppress(PermissionError):  # somebody else's process, but one that lives
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
