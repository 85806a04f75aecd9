"""What the function answers while Redis or MinIO is away."""

import json

import pytest
import urllib3

from tests.tracks_stack import MB, SONG, Stack, problem, url


def test_without_redis_the_stems_are_served(empty: Stack) -> None:
    track = empty.put(1, vocals_mp3=SONG)
    assert empty.get("/v1/tracks").status == 200
    assert empty.get("/health/ready").status == 200
    empty.kill("redis")
    try:
        for path in ("/v1/tracks", "/v1/queue", "/health/ready"):
            problem(empty.get(path), 503, "Redis")
        assert empty.get(url(track)).data == SONG
        for path in (f"/v1/tracks/{track.songhash}", "/health/live", "/"):
            assert empty.get(path).status == 200
    finally:
        empty.start("redis")
    assert empty.get("/health/ready").status == 200
    assert len(json.loads(empty.get("/v1/tracks").data)["tracks"]) == 1


def test_without_minio_requests_are_put_off_and_downloads_end_short(empty: Stack) -> None:
    track = empty.put(1, vocals_mp3=bytes(64 * MB))
    assert empty.get("/v1/tracks").status == 200
    begun = empty.open(url(track))
    assert begun.read(MB) == bytes(MB)
    empty.kill("minio")
    try:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            begun.read()
        for path in (f"/v1/tracks/{track.songhash}", url(track), "/health/ready"):
            problem(empty.get(path), 503)
        assert len(json.loads(empty.get("/v1/tracks").data)["tracks"]) == 1
        empty.redis.flushall()
        problem(empty.get("/v1/tracks"), 503)
    finally:
        begun.close()
        empty.start("minio")
    for path in ("/health/ready", "/v1/tracks", url(track)):
        assert empty.get(path).status == 200
