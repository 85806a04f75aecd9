"""The running function held to its own description, by schemathesis: single requests, and sequences of them.

The short form is part of `make test`; STEMS_SCHEMA_CASES makes it long (functions/stems/tracks/README.md).
"""

import os
import re
import subprocess
from pathlib import Path

from tests.integration.tracks.conftest import Guarded
from tests.programs import need
from tests.tracks_stack import SONG

CASES = int(os.environ.get("STEMS_SCHEMA_CASES", "0"))
# Short: the same cases every time, so that a test which failed fails again.
SHORT = ["--max-examples", "10", "--seed", "7", "--generation-deterministic"]


def test_the_function_does_what_its_document_says(guarded: Guarded, tmp_path: Path) -> None:
    stack = guarded.stack
    stack.clear()
    for number in range(20):
        upload = stack.upload(f"in/{number}.mp3", SONG + bytes([number]))
        stack.index.add(stack.put(number, upload=upload, peaks=number % 2 > 0, vocals_mp3=SONG, drums_flac=b"drums"))
    done = subprocess.run(
        [
            need("schemathesis"),
            f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
            "run",
            f"{stack.url}/v1/openapi.json",
            f"--header=Authorization: Bearer {guarded.tokens['admin']}",
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
    assert stack.get("/health/ready").status == 200
