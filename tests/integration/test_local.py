"""What a newcomer runs first: `make demo`, `make up`, `stems separate`."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stems_local.programs import Programs
from stems_local.stack import CHECKOUT, Stack
from tests.conftest import QUICK
from tests.pipeline import Pipeline, song, wait_for
from tests.programs import need


def test_demo_separates_a_song_and_leaves_nothing_running(programs: Programs, tmp_path: Path) -> None:
    path = song(tmp_path / "mine.wav", seed=300)
    done = subprocess.run(
        [sys.executable, "-m", "stems_local", "demo", "-o", str(tmp_path / "out"), str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out" / "mine").iterdir()) == [
        f"{stem}.mp3" for stem in ("bass", "drums", "other", "vocals")
    ]
    for word in ("mc cp", "/v1/tracks", "separate", "encode", "untrained", "NOT a separation", "Stopped"):
        assert word in done.stdout
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(CHECKOUT / ".stems" / "demo") not in left


def test_a_bad_song_ends_the_demo_with_its_reason(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "poem.mp3"
    path.write_text("no sound\n")
    command = [sys.executable, "-m", "stems_local", "demo", "-o", str(tmp_path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "Error: poem.mp3: " in done.stderr
    assert "not an audio file" in done.stderr


def test_songs_and_addresses_survive_a_restart(programs: Programs, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", programs, QUICK)
    stack.start()
    try:
        first = Pipeline(stack)
        first.put(song(tmp_path / "before.wav", seed=301), "before.wav")
        track = first.done("before.wav")
        # Stopped in the middle of the second song.
        etag = first.put(song(tmp_path / "middle.wav", seed=302, duration_s=90), "middle.wav")
        wait_for("the start", lambda: first.job("middle.wav", etag).get("progress", "0") > "0.05")
        first.close()
    finally:
        stack.stop()
    again = Stack(tmp_path / "state", programs, QUICK)
    assert again.ports == stack.ports
    again.start()
    try:
        second = Pipeline(again)
        assert second.get(f"/v1/tracks/{track['songhash']}") == track
        assert second.done("middle.wav", etag)["duration_s"] == 90
        second.close()
    finally:
        again.stop()


def test_up_says_what_to_try_and_ctrl_c_stops_all_of_it(programs: Programs, tmp_path: Path) -> None:
    if Stack(CHECKOUT / ".stems" / "state", programs).running():
        pytest.skip("`make up` runs in this checkout, somebody uses it")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "stems_local", "up"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        environ = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", (CHECKOUT / ".stems/env").read_text(), re.MULTILINE))
        path = song(tmp_path / "sent.wav", seed=303)
        script = (
            f". {CHECKOUT}/.stems/env && mc cp -q {path} stems/queue/ && stems submit --wait {path} && stems tracks"
        )
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "sent.wav" in done.stdout
        assert environ["STEMS_URL"] in said
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert not Stack(CHECKOUT / ".stems" / "state", programs).running()


def test_the_command_line_separates_without_a_server(tmp_path: Path) -> None:
    good, bad = song(tmp_path / "good song.wav", seed=304), tmp_path / "bad.mp3"
    bad.write_bytes(b"")
    command = [need("stems"), "separate", "-o", str(tmp_path / "out"), "--stems", "vocals,no_vocals", "--format", "wav"]
    done = subprocess.run([*command, str(bad), str(good)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "empty (0 bytes)" in done.stderr
    assert "untrained" in done.stderr
    made = sorted(path.name for path in (tmp_path / "out" / "good song").iterdir())
    assert made == ["no_vocals.wav", "vocals.wav"]
