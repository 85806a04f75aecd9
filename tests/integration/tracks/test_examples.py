"""The examples in the README's tables of routes do what they say, as they are printed; and no route lacks one."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.tracks.test_jobs import enter
from tests.programs import CHECKOUT, need
from tests.tracks_stack import SONG, Stack

README = (CHECKOUT / "functions" / "stems" / "tracks" / "README.md").read_text()
ROWS = re.findall(r"^\| (?:`[A-Z]+[ `]|…).*\|$", README, re.MULTILINE)
EXAMPLES = [
    example.replace("\\|", "|")
    for row in ROWS
    for example in re.findall(r"`((?:curl|echo) [^`]+)`", re.split(r"(?<!\\)\|", row)[3])
]
ENDLESS = "/v1/events"
TIMED_OUT = 28  # of curl


def test_every_route_has_an_example() -> None:
    without = [row for row in ROWS if not re.search("curl|its addresses|this table", row)]
    assert (len(ROWS) > 20, without) == (True, [])


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_work_as_printed(empty: Stack, tmp_path: Path, example: str) -> None:
    need("curl")
    (tmp_path / "song.mp3").write_bytes(SONG)
    (tmp_path / ".curlrc").write_text("fail\nsilent\nshow-error\nmax-time = 20\n")
    upload = empty.upload("in/song.mp3")
    track = empty.put(1, name="song.mp3", upload=upload, peaks=True, vocals_mp3=SONG, drums_mp3=SONG)
    empty.index.add(track)
    job = enter(empty, empty.upload("in/other.mp3"), "failed" if "/retry" in example else "waiting")
    environ = {"URL": empty.url, "HASH": track.songhash, "JOB": job.rpartition("/")[2], "HOME": str(tmp_path)}
    command = f"{example} --max-time 1" if ENDLESS in example else example
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**environ, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == (TIMED_OUT if ENDLESS in example else 0), (done.stdout, done.stderr)
    files = {path.name for path in tmp_path.iterdir()} - {"song.mp3", ".curlrc"}
    assert done.stdout or files or " -X DELETE " in example
