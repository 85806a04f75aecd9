"""`stems separate` in a process of its own, and what ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from stems.separate import headers
from tests.audio import CODECS, make
from tests.cli import program
from tests.networks import write_small
from tests.programs import need
from tests.servers import until

MODEL = ("--model", "untrained")
STRIDE_BYTES = int(0.75 * 2 * 44100) * 8  # of the small network's segments, of one stem


def children(word: str) -> list[str]:
    """Return the command lines on this machine that name `word`."""
    listed = subprocess.run(["ps", "-ewwo", "args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if word in line and "ffmpeg" in line]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_it_within_a_segment_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    """The segments in work are the last: none is written any more. Of the song, most is left by then."""
    need("ffmpeg")
    # Quiet: random weights make it louder, and where a stem clips, nothing is encoded before the end.
    song = make(tmp_path / "song.flac", *CODECS["song.flac"], "-af", "volume=0.02", duration_s=300)
    settings, out = write_small(tmp_path), tmp_path / "out"
    with program("separate", "-o", str(out), str(song), environ=settings) as running:
        # In the middle: some segments are written, and the encoder is at work.
        until(lambda: any(path.stat().st_size for path in out.glob(".stems-*/vocals.f32")), timeout_s=90)
        kept = tmp_path / "kept.f32"  # what was written last is seen there, also when all is cleared away
        kept.hardlink_to(next(out.glob(".stems-*/vocals.f32")))
        assert children(str(out))
        before = kept.stat().st_size
        os.kill(running.pid, getattr(signal, name))
        running.communicate(timeout=100)
    assert running.returncode == (130 if name == "SIGINT" else 128 + getattr(signal, name))
    assert not out.exists()
    assert not children(str(out))
    assert kept.stat().st_size - before <= 2 * STRIDE_BYTES  # one that was finished, and one on its way
    assert kept.stat().st_size < 300 * 44100 * 8 / 2


MOVING = """
import signal
from pathlib import Path
from stems.cli import main

replace = Path.replace

def disturbed(path, target):
    signal.raise_signal(signal.{name})
    return replace(path, target)

Path.replace = disturbed
main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_while_stems_are_moved_waits_for_all_of_them(name: str, tmp_path: Path) -> None:
    need("ffmpeg")
    song, out = make(tmp_path / "song.flac", *CODECS["song.flac"]), tmp_path / "out"
    (out / "song").mkdir(parents=True)
    for stem in ("drums", "bass", "other", "vocals"):
        (out / "song" / f"{stem}.mp3").write_text("an earlier one")
    command = [sys.executable, "-c", MOVING.format(name=name), "separate", *MODEL, "--force", "-o", str(out), str(song)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == (130 if name == "SIGINT" else 128 + getattr(signal, name)), done.stderr
    assert [headers.read(path).length for path in (out / "song").iterdir()] == [4 * 44100] * 4
    assert [path.name for path in out.iterdir()] == ["song"]


def test_stems_of_all_kinds_are_made_of_several_songs(tmp_path: Path) -> None:
    need("ffmpeg")
    songs = [make(tmp_path / name, *CODECS[name]) for name in ("song.flac", "song.mp3")]
    songs[0] = songs[0].rename(tmp_path / "one.flac")
    bad, loud = tmp_path / "bad.mp3", tmp_path / "loud.wav"
    bad.write_text("no song")
    soundfile.write(loud, [[0.1, 0.1], [3e38, 0.1]], 44100, "FLOAT")
    out = tmp_path / "out"
    arguments = ("--stems", "vocals,no_vocals", "--format", "wav-32f,flac-16,mp3-v2", "-o", str(out))
    with program(
        "separate", *MODEL, *arguments, str(songs[0]), str(bad), str(loud), str(songs[1]), environ={}
    ) as running:
        _, told = running.communicate(timeout=100)
    assert running.returncode == 1
    assert f"Error: {bad}: not an audio file" in told
    assert f"Error: {loud}: the sample at 0.000 s is 3e+38" in told
    assert sorted(path.name for path in out.iterdir()) == ["one", "song"]
    for song in ("one", "song"):
        made = {path.name: headers.read(path).length for path in (out / song).iterdir()}
        names = [f"{stem}.{kind}" for stem in ("vocals", "no_vocals") for kind in ("wav", "flac", "mp3")]
        assert made == dict.fromkeys(names, 4 * 44100)
