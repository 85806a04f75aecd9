"""Keys of strangers: whatever MinIO takes as one is a song, and stays a word: no path, no header, no line of its own.

All are copies of two songs, so that two separations answer them all.
"""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from minio.datatypes import PostPolicy
from werkzeug.http import parse_options_header

from stems import printable
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.conftest import QUICK
from tests.pipeline import Pipeline, song, wait_for
from tests.programs import need

ACCEPTED = {
    "composed": "caf\u00e9.wav",
    "decomposed": "cafe\u0301.wav",
    "percent": "..%2F..%2Fetc%2Fpasswd%00.wav",
    "plus": "a+b c%20d%2B.wav",
    "leading dot": ".hidden.wav",
    "dots": "....wav",
    "trailing space": "song.wav ",
    "leading space": " song.wav",
    "leading dash": "-rf --help.wav",
    "newlines": "first\r\nSet-Cookie: a=b\nsecond.wav",
    "tab, bell": "tab\tbell\x07.wav",
    "escape": "red \x1b[31m \x1b]0;title\x07 \x1b[2J.wav",
    "C1": "c1 \x9b31m \x85.wav",
    "separators": "line\u2028paragraph\u2029.wav",
    "quotes": "\"quotes\" 'and' `ticks` $(id) ; rm -rf \\ &|<>.wav",
    "markup": "<script>alert(1)</script>&amp;.wav",
    "template": "%s %(x)s {x} {{x}} ${x}.wav",
    "bidi": "song\u202e3pm.exe \u2066inner\u2069.wav",
    "emoji": "👩\u200d🎤 🏳️\u200d🌈 🎵.wav",
    "right to left": "שיר בעברית.wav",
    "wide": "夜に駆ける.wav",
    "long": "/".join("x" * 200 for _ in range(5)) + "/long.wav",  # 1,013 bytes
    "folder": "a/b/c/d/deep.wav",
    "like a folder": "named as a folder.wav/",
    "like a record": f"{'0' * 64}.json",
    "like a part": f"parts/{'0' * 64}/plan/plan.json",
}
REFUSED = {
    "up": "../up.wav",
    "up within": "a/../../etc/passwd",
    "here": "./here.wav",
    "nothing between": "a//b.wav",
    "a zero": "zero\0.wav",
    "1,025 bytes": "/".join("x" * 204 for _ in range(5)) + "/",
    "a name of 256 bytes": "x" * 256,
}


NASTY = ("newlines", "escape", "C1", "separators", "bidi", "quotes")
NAMED = {  # what a browser saves the stems of the songs as that came by these names first
    "newlines": "first__Set-Cookie: a=b_second",
    "bidi": "song_3pm.exe _inner_",
    "quotes": "_quotes_ 'and' `ticks` $(id) ; rm -rf _ &|<>",
}
FOUR = ("drums", "bass", "other", "vocals")


@pytest.fixture(scope="module")
def pipeline(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline of its own: its buckets hold these songs and nothing else, its log is JSON."""
    need("stems")
    stack = Stack(tmp_path_factory.mktemp("keys"), programs, {**QUICK, "STEMS_LOG_FORMAT": "json"})
    stack.start()
    pipeline = Pipeline(stack)
    yield pipeline
    pipeline.close()
    stack.stop()


def files(pipeline: Pipeline) -> set[str]:
    """Return all files of the pipeline's folder, where its parts run, but those of its stores and logs."""
    root, theirs = pipeline.stack.root, {"minio", "minio-queue", "redis", "logs"}
    paths = (path.relative_to(root) for path in root.rglob("*"))
    return {str(path) for path in paths if path.parts[0] not in theirs}


def form(pipeline: Pipeline, key: str) -> urllib3.BaseHTTPResponse:
    """Put an object by a signed form: nothing on the way tidies its key."""
    policy = PostPolicy("queue", datetime.now(UTC) + timedelta(hours=1))
    policy.add_starts_with_condition("key", "")
    fields: dict[str, Any] = {"key": key, **pipeline.s3.presigned_post_policy(policy), "file": ("x", b"no song")}
    return urllib3.request("POST", f"{pipeline.stack.s3_url}/queue", fields=[*fields.items()])


def stems(pipeline: Pipeline, *arguments: str) -> str:
    environ = {**os.environ, **pipeline.stack.environ("uploader")}
    done = subprocess.run([need("stems"), *arguments], env=environ, capture_output=True, check=True)
    return done.stdout.decode()


def harmless(text: str, what: str) -> None:
    """Fail where characters harm a terminal, or the order of words."""
    found = [hex(ord(c)) for c in text if c != "\n" and printable.harms(c)]
    assert not found, (what, found)


def test_each_key_that_minio_takes_is_a_song_and_stays_a_word(pipeline: Pipeline, tmp_path: Path) -> None:
    before = files(pipeline)
    first: dict[str, dict[str, Any]] = {}
    for seed, name in enumerate(NAMED):
        path = song(tmp_path / f"{seed}.wav", seed=9000 + seed, duration_s=1)
        pipeline.put(path, ACCEPTED[name])
        first[name] = pipeline.done(ACCEPTED[name])
    for name in ACCEPTED.keys() - NAMED.keys():
        pipeline.put(tmp_path / "0.wav", ACCEPTED[name])
    text = tmp_path / "text"
    text.write_text("no song")
    dead = [ACCEPTED[name] + ".txt" for name in NASTY]
    for key in dead:
        pipeline.put(text, key)

    for name in ACCEPTED.keys() - NAMED.keys():
        assert pipeline.ended(ACCEPTED[name])["songhash"] == first["newlines"]["songhash"], name
    assert {pipeline.ended(key)["state"] for key in dead} == {"failed"}

    songhashes = {track["songhash"] for track in first.values()}
    for item in pipeline.s3.list_objects("output", recursive=True):
        assert re.fullmatch(r"([0-9a-f]{64})(-[a-z_]+\.(mp3|json)|\.json)", item.object_name or ""), item.object_name
        assert (item.object_name or "")[:64] in songhashes
    wait_for("the scratch folders' end", lambda: files(pipeline) <= before)
    for name, track in first.items():
        for stem in FOUR:
            _disposition(pipeline, f"/v1/tracks/{track['songhash']}/{stem}", f"{NAMED[name]} - {stem}.mp3")
        _disposition(pipeline, track["zip"], f"{NAMED[name]}.zip")
    _harmless_everywhere(pipeline, {ACCEPTED[name] for name in ACCEPTED} | set(dead))


def _disposition(pipeline: Pipeline, path: str, name: str) -> None:
    """Expect the download to be saved as `name`, by a header of one line that adds no other."""
    with urllib.request.urlopen(pipeline.settings.tracks_url + path, timeout=30) as answer:
        assert "Set-Cookie" not in answer.headers
        (value,) = answer.headers.get_all("Content-Disposition")
    kind, options = parse_options_header(value)
    assert (kind, options["filename"]) == ("attachment", name)


def _harmless_everywhere(pipeline: Pipeline, keys: set[str]) -> None:
    for path in ("/v1/tracks", "/v1/queue", "/v1/tracks?state=failed"):
        body = pipeline.download(path).decode()
        harmless(body, path)
        json.loads(body)
    for command in (["tracks"], ["tracks", "--json"], ["status"], ["status", "--json"], ["dead", "list"], ["logs"]):
        harmless(stems(pipeline, *command), " ".join(command))
    shown = {job["key"] for job in json.loads(stems(pipeline, "status", "--json"))["failed"]["jobs"]}
    assert shown == keys - set(ACCEPTED.values()), "escaped is not altered"
    told = set()
    for part in ("relay", "separate", "tracks"):
        for line in (pipeline.stack.root / "logs" / f"{part}.log").read_text().split("\n"):
            harmless(line, part)
            if line.startswith("{"):
                told.add(json.loads(line).get("key"))
    assert keys <= told


@pytest.mark.parametrize("name", REFUSED)
def test_what_minio_refuses_as_a_key(pipeline: Pipeline, name: str) -> None:
    assert 400 <= form(pipeline, REFUSED[name]).status < 500
