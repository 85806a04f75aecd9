"""Memory of a separation by the length of the song: the whole way from file to stems, in a process of its own."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from stems.separate.audio import ffmpeg
from tests.bench.machine import machine
from tests.programs import need

MINUTES = (1, 10, 60)


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_memory_does_not_grow_with_the_song(tmp_path: Path) -> None:
    print(f"\n{machine()}\n`stems separate` with the model demo: 4 MP3 stems")
    for minutes in MINUTES:
        song = tmp_path / f"{minutes}.mp3"
        noise = f"anoisesrc=d={60 * minutes}:a=0.2:c=pink"
        subprocess.run([ffmpeg(), "-v", "error", "-f", "lavfi", "-i", noise, "-ac", "2", str(song)], check=True)
        started = time.monotonic()
        process = subprocess.Popen(
            [need("stems"), "separate", "-o", str(tmp_path), str(song)], stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        assert process.returncode == 0
        print(f"  {minutes:3} min of music: {usage.ru_maxrss / 1024:5.0f} MiB at most, {seconds:6.1f} s")
