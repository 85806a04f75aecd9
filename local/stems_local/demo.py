"""What `make demo` shows: a song goes in with `mc cp`, its progress, its stems, and where the time went."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stems.errors import StemsError
from stems_local import quality
from stems_local.stack import CHECKOUT, Stack

Say = Callable[[str], None]

BUNDLED = CHECKOUT / "tests" / "data" / "song.mp3"

_POLL_S = 0.1
_ADVICE = """
For one that was trained on real music, where there is a network:
  .venv/bin/stems model fetch htdemucs
  STEMS_MODEL=htdemucs make demo"""
_BAR = 30


def play(stack: Stack, song: Path, out: Path, say: Say) -> None:
    """Send `song` through the running pipeline; copy its stems to a folder below `out` and tell about all of it."""
    say(f"\n$ mc cp {_short(song)} stems/queue/")
    started = time.monotonic()
    _mc(stack, "cp", "--quiet", str(song), "stems/queue/")
    uploaded = time.monotonic()
    track = _wait(stack, song.name)
    done = time.monotonic()
    say(f"\nListed at {stack.tracks_url}/v1/tracks")
    model, songhash = track["model"], track["songhash"]
    say(f"  {track['name']}   {track['duration_s']:.1f} s of music   model {model['name']}   {songhash[:12]}…")
    folder = out / song.stem
    folder.mkdir(parents=True, exist_ok=True)
    say(f"\nStems, in {_short(folder)}/")
    for stem in track["stems"]:
        target = folder / f"{stem['stem']}.{stem['format']}"
        with urllib.request.urlopen(stack.tracks_url + stem["url"]) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
        say(f"  {target.name:<14} {target.stat().st_size / 1e6:6.2f} MB{_quality(song, stem, target)}")
    say("\nWhere the time went")
    say(f"  {'upload':<10} {uploaded - started:6.2f} s")
    for stage, seconds in track["stages_s"].items():
        say(f"  {stage:<10} {seconds:6.2f} s")
    total = done - uploaded
    say(f"  {'all':<10} {total:6.2f} s from the end of the upload to the stems")
    if model["note"]:
        say(f"\nNOTE: the model `{model['name']}`: {model['note']}.{_ADVICE}")


def _quality(song: Path, stem: Mapping[str, Any], delivered: Path) -> str:
    """Return how good a stem of the bundled song is: its true stems lie beside it."""
    truth = BUNDLED.with_suffix("") / f"{stem['stem']}.mp3"
    if song != BUNDLED or not truth.is_file():
        return ""
    before, after = quality.compare(truth, song), quality.compare(truth, delivered, stem["gain_db"])
    return f"   SDR {after:5.1f} dB   ({before:5.1f} dB in the song)"


def follow_log(stack: Stack) -> None:
    """Print the important lines of all parts as they come, for as long as the pipeline runs."""
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "stems"), "logs", "-f", "-n", "0"],
        env={**os.environ, **stack.environ("uploader")},
        start_new_session=True,
    )
    try:
        while stack.running():
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait()


def _mc(stack: Stack, *arguments: str) -> None:
    host = stack.s3_url.replace("://", f"://uploader:{stack.keys['uploader']}@")
    command = [stack.programs.mc, "--config-dir", str(stack.root / "mc"), *arguments]
    environ = {**os.environ, "MC_HOST_stems": host}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StemsError(f"mc: {(done.stderr or done.stdout).strip()}")


def _wait(stack: Stack, name: str) -> dict[str, Any]:
    """Show the song's progress until it is a track; raise StemsError with the reason if it becomes a dead letter."""
    began = time.monotonic()
    live = sys.stdout.isatty()
    while True:
        tracks = _get(stack, "/v1/tracks")["tracks"]
        queue = _get(stack, "/v1/queue")
        for track in tracks:
            if track["name"] == name:
                _show(1.0, "done", began, live, last=True)
                found: dict[str, Any] = track
                return found
        for job in queue["failed"]["jobs"]:
            if job["name"] == name:
                raise StemsError(f"{name}: {job['error']}")
        running = [job for job in queue["running"]["jobs"] if job["name"] == name]
        state = "separating" if running else "waiting"
        _show(running[0]["progress"] if running else 0.0, state, began, live, last=False)
        time.sleep(_POLL_S)


def _show(part: float, state: str, began: float, live: bool, *, last: bool) -> None:
    """Draw the bar in place on a terminal; elsewhere only its end."""
    if live or last:
        bar = "█" * round(part * _BAR)
        line = f"  {bar:<{_BAR}} {part:4.0%} {state:<10} {time.monotonic() - began:5.1f} s"
        sys.stdout.write(("\r" if live else "") + line + ("\n" if last else ""))
        sys.stdout.flush()


def _get(stack: Stack, path: str) -> Any:
    try:
        with urllib.request.urlopen(stack.tracks_url + path, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 503:  # for a moment: the index is being built
            return {"tracks": [], "running": {"jobs": []}, "failed": {"jobs": []}}
        raise StemsError(f"GET {path}: {error}") from error
    except OSError as error:
        raise StemsError(f"the pipeline was stopped meanwhile: GET {path}: {error}") from error


def _short(path: Path) -> str:
    """Return the path as seen from here, where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
