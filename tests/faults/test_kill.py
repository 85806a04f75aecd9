"""`kill -9` of any process in the middle of a song: the song still comes out."""

import os
import signal
from pathlib import Path

import pytest

from tests.pipeline import Pipeline, song, wait_for

PARTS = ["pipeline:separate", "pipeline:relay", "pipeline:tracks", "redis", "minio"]


def kill(pid: int) -> None:
    """Kill a process and its children, as a node that fails does; gunicorn's worker is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    victims = [pid, *(int(child) for child in (children.read_text().split() if children.exists() else ()))]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)


@pytest.mark.parametrize("part", PARTS)
def test_kill_in_the_middle_of_a_song(pipeline: Pipeline, tmp_path: Path, part: str) -> None:
    name = f"killed {part.removeprefix('pipeline:')}.wav"
    path = song(tmp_path / "song.wav", seed=1000 + PARTS.index(part), duration_s=60)
    etag = pipeline.put(path, name)
    pipeline.in_the_middle(name, etag)

    pid = pipeline.stack.pid(part)
    kill(pid)

    wait_for(f"another {part}", lambda: pipeline.stack.pid(part) not in (0, pid))
    tags = wait_for("MinIO", lambda: pipeline.ended(name, etag, deadline_s=90))
    assert tags["state"] == "done"
    track = wait_for("the track", lambda: pipeline.get(f"/v1/tracks/{tags['songhash']}"))
    assert {stem["stem"] for stem in track["stems"]} == {"drums", "bass", "other", "vocals"}
    assert track["duration_s"] == 60
    assert pipeline.settled(name, etag)["state"] == "done"
