"""Memory of the page's tab with a long song: opened, played, sought through, rendered."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from stems import naming
from stems.record import ModelInfo, Track
from stems.separate.audio import ffmpeg
from tests.bench.machine import machine
from tests.browser import RATE_HZ, chromium, tab
from tests.tracks_stack import Stack, running

STEMS = ("drums", "bass", "other", "vocals")
MINUTES = (4, 60)


def renderers_mb() -> float:
    """Return what the tabs opened by this process hold: memory of their own, and a share of what is shared (Pss)."""
    parents: dict[int, int] = {}
    total_kb = 0
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if process.name.isdecimal():
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    for number, parent in parents.items():
        folder = Path(f"/proc/{number}")
        while parent not in (0, 1, os.getpid()):
            parent = parents.get(parent, 0)
        with contextlib.suppress(OSError):
            if parent == os.getpid() and b"--type=renderer" in (folder / "cmdline").read_bytes():
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total_kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def put_long(stack: Stack, minutes: int) -> Track:
    """Put a track whose four stems are the same MP3, made once."""
    songhash = f"{minutes:064x}"
    path = stack.folder / f"{minutes}.mp3"
    noise = f"anoisesrc=d={60 * minutes}:a=0.2:c=pink:r={RATE_HZ}"
    arguments = ["-ac", "2", "-c:a", "libmp3lame", "-b:a", "320k", "-compression_level", "9"]
    command = [ffmpeg(), "-v", "error", "-y", "-f", "lavfi", "-i", noise, *arguments, str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    body = path.read_bytes()
    stems = tuple(stack.put_stem(songhash, stem, "mp3", body=body) for stem in STEMS)
    model = ModelInfo("demo", "0" * 64, "fp32")
    made = Track(songhash, "Long.mp3", "queue", "Long.mp3", "e", 60 * minutes, RATE_HZ, 2, model, 1, stems)
    stack.put_object(naming.record_object(songhash), made.to_json())
    return made


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_memory_of_the_tab(tmp_path: Path) -> None:
    print(f"\n{machine()}\nthe page in Chromium, 4 MP3 stems; MiB of all tabs (Pss)")
    with running(tmp_path) as stack:
        for minutes in MINUTES:
            song = put_long(stack, minutes)
            with chromium() as browser, tab(browser, f"http://127.0.0.1:{stack.ports['tracks']}") as page:
                page.goto("/")
                page.wait_for_timeout(1000)
                seen = {"first page": renderers_mb()}
                page.goto(f"/#song={song.songhash}")
                page.get_by_role("button", name="Play").click()
                page.wait_for_timeout(20_000)
                seen["played for 20 s"] = renderers_mb()
                for step in range(20):
                    page.get_by_role("slider", name="Position").fill(str(60 * minutes * step / 20))
                    page.wait_for_timeout(700)
                seen["20 places heard"] = renderers_mb()
                page.get_by_role("button", name="Pause").click()
                most, started = 0.0, time.monotonic()
                with page.expect_download(timeout=900_000) as download:
                    page.get_by_role("button", name="Mix as WAV").click()
                    while page.locator(".export progress").is_visible():
                        most = max(most, renderers_mb())
                        page.wait_for_timeout(500)
                seconds = time.monotonic() - started
                size_mb = download.value.path().stat().st_size / 1024**2
                seen["most while the mix is rendered"] = most
                print(f"  {minutes:2} min of music, {minutes * 60 * RATE_HZ * 8 * 4 / 1024**2:.0f} MiB as samples")
                for what, mb in seen.items():
                    print(f"    {what:32} {mb:6.0f} MiB")
                print(f"    a mix of {size_mb:.0f} MiB rendered in {seconds:.0f} s")
