"""The running function held to its own description, by schemathesis: single requests, and sequences of them.

The short form is part of `make test`; STEMS_SCHEMA_CASES makes it long (functions/stems/tracks/README.md).
"""

import os
import re
import subprocess
from pathlib import Path

from tests.programs import need
from tests.tracks_stack import SONG, Stack

CASES = int(os.environ.get("STEMS_SCHEMA_CASES", "0"))
# Short: the same cases every time, so that a test which failed fails again.
SHORT = ["--max-examples", "10", "--seed", "7", "--generation-deterministic"]


def test_the_function_does_what_its_document_says(empty: Stack, tmp_path: Path) -> None:
    for number in range(20):
        upload = empty.upload(f"in/{number}.mp3", SONG + bytes([number]))
        empty.index.add(empty.put(number, upload=upload, peaks=number % 2 > 0, vocals_mp3=SONG, drums_flac=b"drums"))
    done = subprocess.run(
        [
            need("schemathesis"),
            f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
            "run",
            f"{empty.url}/v1/openapi.json",
            # It has no end. test_events.py has a client of its own.
            "--exclude-path=/v1/events",
            "--continue-on-failure",
            "--no-color",
            *(["--max-examples", str(CASES)] if CASES else SHORT),
        ],
        cwd=tmp_path,  # it keeps its examples here
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated
    assert int(generated[1]) > 500
    assert empty.get("/health/ready").status == 200
