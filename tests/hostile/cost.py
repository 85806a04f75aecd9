"""What it costs to read a file as the worker does: its tags and its sound. Each in a process of its own, which has no
torch, so that the memory of the reader, and that of the decoders, its children, can be told.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stems.errors import PermanentError
from stems.separate import audio, scratch, tags


@dataclass(frozen=True, slots=True)
class Cost:
    """Peaks of memory: of the largest decoder, and by how much the reader grew; `processor_s`: of all of them; `left`:
    files that were not removed; `reason`: why it was refused, or nothing.
    """

    decoder_mib: float
    reader_mib: float
    processor_s: float
    left: list[str]
    reason: str = ""


class Meter:
    """Reads one file after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, path: Path, max_duration_s: float) -> Cost:
        """Read a file and tell what that cost; it fails where the reader died."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(path), max_duration_s]) + "\n")
        self._process.stdin.flush()
        return Cost(**json.loads(self._process.stdout.readline()))


@contextmanager
def meter(folder: Path) -> Iterator[Meter]:
    """Make a meter, whose readers work in this folder."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "tests.hostile.cost"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environ) as process:
        yield Meter(process)
        assert process.stdin
        process.stdin.close()


def _main() -> None:
    for line in sys.stdin:
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            path, max_duration_s = json.loads(line)
            print(json.dumps(asdict(_cost(Path(path), max_duration_s))), flush=True)
            os._exit(0)


def _cost(path: Path, max_duration_s: float) -> Cost:
    before_mib, reason = _peak_mib(), ""
    with scratch.folder() as name:
        folder = Path(name)
        try:
            tags.read(path, folder / "cover.jpg")
            audio.decode(path, folder / "song.f32", sample_rate_hz=44100, channels=2, max_duration_s=max_duration_s)
        except PermanentError as error:
            reason = str(error)
    own, children = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    processor_s = sum(each.ru_utime + each.ru_stime for each in (own, children))
    left = os.listdir(tempfile.gettempdir())
    return Cost(children.ru_maxrss / 1024, _peak_mib() - before_mib, processor_s, left, reason)


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    _main()
