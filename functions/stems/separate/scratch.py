"""Folders for the audio that a worker has in work. What a worker leaves when it is killed, the next one removes."""

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"stems-worker-(\d{1,7})-[a-z0-9_]+")


def folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder below TMPDIR that goes when its context ends; its name tells whose it is."""
    return tempfile.TemporaryDirectory(prefix=f"stems-worker-{os.getpid()}-")


def clean() -> None:
    """Remove the folders of workers that are dead. To be called before this process makes its first."""
    for path in Path(tempfile.gettempdir()).iterdir():
        name = _NAME.fullmatch(path.name)
        if not name:
            continue
        pid = int(name[1])
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
