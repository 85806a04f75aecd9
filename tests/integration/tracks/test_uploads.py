"""Songs into the bucket: by a form straight to MinIO, and through the function."""

import http.client
import json
from typing import Any

import pytest

from stems import naming
from tests.tracks_stack import MB, SONG, Stack, problem


def form(stack: Stack, **asked: object) -> Any:
    answer = stack.send("POST", "/v1/uploads", {"name": "Später.mp3", **asked})
    assert answer.status == 200, answer.data
    return answer.json()


def post(stack: Stack, made: Any, body: bytes, **fields: str) -> Any:
    """Send a form as a browser does."""
    sent = {**made["fields"], **fields, "file": ("any name", body, "audio/mpeg")}
    return stack.http.request("POST", made["url"], fields=sent)


def test_a_form_puts_a_song_straight_into_the_bucket(empty: Stack) -> None:
    made = form(empty, stems=["vocals", "no_vocals"], format=["flac"], callback="https://example.org/done?x=1")
    # As people reach MinIO, not as this function does.
    assert made["url"] == f"http://localhost:{empty.ports['minio']}/queue"
    answer = post(empty, made, SONG)
    assert answer.status in (200, 204), answer.data
    stored = empty.s3.stat_object("queue", made["key"])
    assert (stored.size, stored.content_type) == (len(SONG), "audio/mpeg")
    assert stored.metadata is not None
    assert stored.metadata["x-amz-meta-stems"] == "vocals,no_vocals"
    assert stored.metadata["x-amz-meta-format"] == "flac"
    assert stored.metadata["x-amz-meta-callback"] == "https://example.org/done?x=1"
    assert naming.song_name(made["key"]) == "Später.mp3"
    assert form(empty)["key"] != made["key"]


def test_a_form_is_good_for_what_it_was_asked_for_alone(empty: Stack) -> None:
    made = form(empty, size=len(SONG))
    assert made["max_bytes"] == len(SONG)
    for body, fields in (
        (SONG + b"x", {}),
        (SONG[1:], {}),
        (SONG, {"key": "other.mp3"}),
        (SONG, {"Content-Type": "text/html"}),
        (SONG, {"x-amz-meta-stems": "drums"}),
    ):
        assert post(empty, made, body, **fields).status in (400, 403), fields
    assert not list(empty.s3.list_objects("queue", recursive=True))
    assert post(empty, made, SONG).status in (200, 204)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"name": "a/b.mp3"}, 400, "a/b.mp3"),
        ({"name": ".."}, 400, "name"),
        ({"name": ""}, 400, "name"),
        ({"name": 5}, 400, "name=5"),
        ({"name": "notes.txt"}, 415, "text/plain"),
        ({"name": "a.mp3", "size": 0}, 400, "size=0"),
        ({"name": "a.mp3", "size": 6 << 30}, 413, "size=6442450944"),
        ({"name": "a.mp3", "format": ["ogg"]}, 400, "ogg"),
        ({"name": "a.mp3", "stems": ["a b!"]}, 400, "b!"),
        ({"name": "a.mp3", "model": "../x"}, 400, "model=../x"),
        ({"name": "a.mp3", "callback": "ftp://x"}, 400, "callback=ftp://x"),
        ({"name": "a.mp3", "callback": "http://ä"}, 400, "callback=http://ä"),
        ({"name": "a.mp3", "colour": "red"}, 400, "colour"),
        ([1], 400, "body"),
    ],
)
def test_what_cannot_be_is_named(stack: Stack, asked: object, status: int, words: str) -> None:
    problem(stack.send("POST", "/v1/uploads", asked), status, words)


def test_a_body_that_is_no_json_is_refused(stack: Stack) -> None:
    problem(stack.send("POST", "/v1/uploads", b"{", **{"Content-Type": "application/json"}), 400, "JSON")
    problem(stack.send("POST", "/v1/uploads", b"name=a", **{"Content-Type": "text/plain"}), 415, "text/plain")


def test_a_song_comes_through_and_is_a_job_at_once(empty: Stack) -> None:
    answer = empty.send("POST", "/v1/tracks?name=S%C3%B6ng.mp3&stems=vocals,drums&format=wav", SONG)
    assert answer.status == 202, answer.data
    job = answer.json()
    assert (job["name"], job["state"], job["position"]) == ("Söng.mp3", "waiting", None)
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert empty.get(answer.headers["Location"]).json() == job
    stored = empty.s3.stat_object("queue", job["key"])
    assert stored.metadata is not None
    assert (stored.size, stored.metadata["x-amz-meta-stems"]) == (len(SONG), "vocals,drums")


@pytest.mark.parametrize("chunked", [True, False])
def test_a_long_song_takes_no_memory(stack: Stack, chunked: bool) -> None:
    stack.send("POST", "/v1/tracks?name=warm.wav", bytes(9 * MB))
    before, most, size = stack.rss_mb(), 0.0, 120 * MB
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports["tracks"], timeout=60)

    def body() -> Any:
        nonlocal most
        for _ in range(size // MB):
            yield bytes(MB)
            most = max(most, stack.rss_mb())

    headers = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
    connection.request("POST", "/v1/tracks?name=long.wav", body(), headers, encode_chunked=chunked)
    answer = connection.getresponse()
    job = json.loads(answer.read())
    assert (answer.status, stack.s3.stat_object("queue", job["key"]).size) == (202, size)
    assert most - before < 60
    connection.close()


def test_a_song_that_breaks_off_is_not_stored(empty: Stack) -> None:
    for size in (10, 20 * MB):  # in one step, and in parts
        connection = http.client.HTTPConnection("127.0.0.1", empty.ports["tracks"], timeout=20)
        connection.putrequest("POST", "/v1/tracks?name=a.mp3")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        connection.send(bytes(size // 2))
        connection.close()
    problem(empty.send("POST", "/v1/tracks?name=a.mp3", b""), 400, "empty")
    assert not list(empty.s3.list_objects("queue", recursive=True))


def test_a_song_in_the_bucket_counts_although_redis_is_away(empty: Stack) -> None:
    empty.kill("redis")
    try:
        answer = empty.send("POST", "/v1/tracks?name=a.mp3", SONG)
        assert (answer.status, answer.json()["state"]) == (202, "waiting")
    finally:
        empty.start("redis")
    assert [item.object_name for item in empty.s3.list_objects("queue", recursive=True)] == [answer.json()["key"]]
