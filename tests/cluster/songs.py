"""Songs of any length, quickly: the bundled one over and over, its bytes told apart by their title."""

import subprocess
from pathlib import Path

from tests.programs import CHECKOUT, need

SONG = CHECKOUT / "tests" / "data" / "song.mp3"
SONG_S = 30


def lasting(path: Path, duration_s: float) -> Path:
    """Write an MP3 that lasts so long and is like no other of this name."""
    again = ["-stream_loop", "-1", "-i", str(SONG), "-t", str(duration_s), "-c", "copy"]
    command = [need("ffmpeg"), "-v", "error", "-y", *again, "-metadata", f"title={path.stem}", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path
