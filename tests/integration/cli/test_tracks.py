"""What the command line asks of the REST function: tracks, their stems, the queue."""

import io
import json
from pathlib import Path

from stems import jobs, naming
from stems.index import Index
from stems.record import ModelInfo, Stem, Track
from stems.storage import Storage
from tests.cli import KEY, Service, run


def separated(service: Service, songhash: str, name: str, *, created_ms: int = 1_700_000_000_000) -> None:
    """Put a track in the bucket and the index as the worker does."""
    stems = []
    for stem in ("drums", "vocals"):
        body = f"{songhash} {stem}".encode()
        put = naming.stem_object(songhash, stem, "flac")
        etag = service.s3.put_object("output", put, io.BytesIO(body), len(body)).etag or ""
        stems.append(Stem(stem, "flac", put, len(body), etag, 0.0))
    model = ModelInfo("htdemucs", "0" * 64, "exact")
    track = Track(songhash, name, "queue", name, "e" * 32, 192.4, 44100, 2, model, created_ms, tuple(stems))
    storage = Storage(service.settings)
    storage.put_record(track)
    Index(service.redis, storage).add(track)


def test_tracks(service: Service) -> None:
    assert "no tracks yet" in run("tracks").stderr
    for number in range(105):  # more than a page of the function
        separated(service, f"{number:064x}", f"song {number}.mp3", created_ms=1_700_000_000_000 + number)
    lines = run("tracks", "--limit", "2").stdout.splitlines()
    assert lines[0].split() == ["HASH", "SONG", "LENGTH", "STEMS", "FORMAT", "MODEL", "WHEN"]
    assert lines[1].split()[:8] == ["00000000", "song", "104.mp3", "3:12", "drums", "vocals", "flac", "htdemucs"]
    assert len(lines) == 3
    found = json.loads(run("tracks", "--limit", "1000", "--json").stdout)
    assert [track["name"] for track in found] == [f"song {number}.mp3" for number in reversed(range(105))]


def test_get_by_name_and_by_hash(service: Service) -> None:
    separated(service, "ab" * 32, "夜に駆ける.mp3")
    separated(service, "cd" * 32, "twice.mp3")
    separated(service, "ce" * 32, "twice.mp3")
    run("get", "夜に駆ける", "-o", "out")
    assert Path("out/夜に駆ける/vocals.flac").read_text() == "ab" * 32 + " vocals"
    assert sorted(path.name for path in Path("out/夜に駆ける").iterdir()) == ["drums.flac", "vocals.flac"]
    assert "is already there; --force replaces it" in run("get", "ab" * 32, "-o", "out", code=1).stderr
    run("get", "abab", "-o", "out", "--force")
    run("get", "cd", "-o", "out")
    assert Path("out/twice/drums.flac").read_text() == "cd" * 32 + " drums"
    assert "2 tracks are meant by 'twice'" in run("get", "twice", code=1).stderr
    assert "no track has the name 'nothing'" in run("get", "nothing", code=1).stderr
    assert "no track" in run("get", "0" * 64, code=1).stderr


def test_status(service: Service, letters: list[str]) -> None:
    running = naming.job_id("queue", "now.mp3", "e" * 32)
    now = jobs.now_ms()
    fields = {"bucket": "queue", "key": "now.mp3", "etag": "e" * 32, "uploaded_ms": now}
    service.redis.hset(naming.job_key(running), mapping={**fields, "state": "separating", "progress": 0.41})
    service.redis.zadd(naming.RELAYS, {"relay": now})
    service.redis.sadd(naming.delivering_key("relay"), running)
    service.redis.hset(naming.job_key("a" * 32), mapping={**fields, "key": "next.mp3", "state": "waiting"})
    service.redis.zadd(naming.WAITING, {"a" * 32: now})
    lines = run("status").stdout.splitlines()
    assert lines[0] == "1 running  1 waiting  3 failed"
    assert any(line.split() == ["████████░░░░░░░░░░░░", "41%", "now.mp3", "just", "now"] for line in lines)
    assert any("next.mp3" in line for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith(letters[0][:8]))
    assert KEY in lines[at]
    assert lines[at + 1].strip() == "422: not a song"
    assert json.loads(run("status", "--json").stdout)["running"]["jobs"][0]["progress"] == 0.41
