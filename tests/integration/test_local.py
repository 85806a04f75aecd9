"""What a newcomer runs first: `make demo`, `make up`, `stems separate`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.conftest import QUICK
from tests.pipeline import Pipeline, song, wait_for
from tests.programs import need


def local(state: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-u", "-m", "stems_local", "--state", str(state), *arguments]


def left_of(state: Path) -> list[str]:
    """Return the processes that still have to do with a state folder, by command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if str(state).encode() in told and int(process.name) != os.getpid():
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_demo_separates_a_song_and_leaves_nothing_running(programs: Programs, tmp_path: Path) -> None:
    path, state = song(tmp_path / "mine.wav", seed=300), tmp_path / "state"
    command = local(state, "demo", "-o", str(tmp_path / "out"), str(path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out" / "mine").iterdir()) == [
        f"{stem}.mp3" for stem in ("bass", "drums", "other", "vocals")
    ]
    for word in ("mc cp", "/v1/tracks", "separate", "encode", "model demo", "synthetic music", "Stopped"):
        assert word in done.stdout
    assert not left_of(state)
    assert (state / "demo").stat().st_mode & 0o077 == 0, "songs and secrets are the user's own"


def test_a_bad_song_ends_the_demo_with_its_reason(programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "poem.mp3"
    path.write_text("no sound\n")
    command = local(tmp_path / "state", "demo", "-o", str(tmp_path), str(path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "Error: poem.mp3: " in done.stderr
    assert "not an audio file" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_end_stops_everything(programs: Programs, tmp_path: Path, number: int) -> None:
    state = tmp_path / "state"
    long = song(tmp_path / "long.wav", seed=305, duration_s=300)
    process = subprocess.Popen(
        local(state, "demo", str(long)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    while "mc cp" not in process.stdout.readline():
        pass
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert "Stopping" in said
    assert "Traceback" not in said
    assert not left_of(state)


def test_songs_and_addresses_survive_a_restart(programs: Programs, tmp_path: Path) -> None:
    root = tmp_path / "sp ace 100% ünïcode"
    stack = Stack(root, programs, QUICK)
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
    assert not left_of(root)
    again = Stack(root, programs, QUICK)
    assert again.ports == stack.ports
    again.start()
    try:
        second = Pipeline(again)
        assert second.get(f"/v1/tracks/{track['songhash']}") == track
        assert second.done("middle.wav", etag)["duration_s"] == 90
        assert not list((root / "tmp").glob("stems-*")), "what the killed worker had in work is removed"
        second.close()
    finally:
        again.stop()


def test_nothing_outlives_its_supervisor(programs: Programs, tmp_path: Path) -> None:
    need("setpriv")
    stack = Stack(tmp_path / "state", programs, QUICK)
    stack.start()
    os.kill(int((stack.root / "supervisord.pid").read_text()), signal.SIGKILL)
    stack.stop()
    wait_for("the end of all parts", lambda: not left_of(stack.root), deadline_s=20)
    stack.start()
    assert Pipeline(stack).get("/v1/tracks") == {"tracks": [], "next": None}
    stack.stop()


def test_up_says_what_to_try_and_ctrl_c_stops_all_of_it(programs: Programs, tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = subprocess.Popen(local(state, "up"), stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        path = song(tmp_path / "sent.wav", seed=303)
        script = f". {state}/env && mc cp -q {path} stems/queue/ && stems submit --wait {path} && stems get sent.wav"
        done = subprocess.run(
            ["sh", "-ec", script], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "stems-out" / "sent" / "vocals.mp3").exists()
        second = subprocess.run(local(state, "up"), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert "already runs" in second.stderr
        status = subprocess.run(["sh", "-ec", f". {state}/env && stems status"], capture_output=True, check=False)
        assert status.returncode == 0, "the first one goes on"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert not (state / "env").exists()
    assert not left_of(state)


def test_the_command_line_separates_without_a_server(tmp_path: Path) -> None:
    good, bad = song(tmp_path / "good song.wav", seed=304), tmp_path / "bad.mp3"
    bad.write_bytes(b"")
    command = [need("stems"), "separate", "-o", str(tmp_path / "out"), "--stems", "vocals,no_vocals", "--format", "wav"]
    done = subprocess.run([*command, str(bad), str(good)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "empty (0 bytes)" in done.stderr
    assert "synthetic music" in done.stderr
    made = sorted(path.name for path in (tmp_path / "out" / "good song").iterdir())
    assert made == ["no_vocals.wav", "vocals.wav"]
