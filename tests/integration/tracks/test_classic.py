"""The classic API at the running function: what it takes, what it refuses, what it removes."""

import base64
import hashlib
import http.client
import json
import random
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest

from stems import lease, naming
from stems.contract import Upload
from tests.servers import until
from tests.tracks_stack import MB, SONG, Stack, problem

HASH = hashlib.sha256(SONG).hexdigest()
JSON = {"Content-Type": "application/json"}  # the lab's clients send it with everything
ENCODED = base64.b64encode(SONG).decode()


def post(stack: Stack, body: object, path: str = "/apiv1/separate", **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"http://127.0.0.1:{stack.ports['tracks']}{path}"
    return stack.http.request("POST", url, body=data, headers={**JSON, **headers})


def uploads(stack: Stack) -> dict[str, Any]:
    listed = stack.s3.list_objects("queue", recursive=True, include_user_meta=True)
    return {item.object_name or "": dict(item.metadata or {}) for item in listed}


@pytest.fixture(autouse=True)
def nothing_in_line(empty: Stack) -> None:
    for key in uploads(empty):
        empty.s3.remove_object("queue", key)


@pytest.mark.parametrize("path", ["/apiv1/separate", "/apiv1/separate/"])
def test_a_song_is_in_the_bucket_when_the_answer_comes(stack: Stack, path: str) -> None:
    answer = post(stack, {"mp3": ENCODED}, path)
    assert (answer.status, json.loads(answer.data)) == (
        200,
        {"hash": HASH, "reason": "Song enqueued for separation"},
    )
    assert list(uploads(stack)) == [f"apiv1/{HASH}.mp3"]
    assert stack.s3.get_object("queue", f"apiv1/{HASH}.mp3").read() == SONG


def test_options_and_callback_go_with_the_song_and_none_overwrites_another(stack: Stack) -> None:
    wishes: list[Mapping[str, Any]] = [
        {"model": "htdemucs"},
        {"callback": {"url": "http://localhost:5000", "data": {"mp3": "ä.mp3", "data": "to be returned"}}},
        {"callback": {"url": "http://localhost:5000"}},
        {"callback": {"url": "", "data": {"x": 1}}, "model": None},
        {"callback": None},
    ]
    for wish in [*wishes, wishes[1]]:
        answer = post(stack, {"mp3": ENCODED, **wish})
        assert (answer.status, json.loads(answer.data)["hash"]) == (200, HASH)
    found = uploads(stack)
    assert len(found) == 4, "the same wish is the same upload"
    assert all(key.startswith("apiv1/") and key.endswith(f"{HASH}.mp3") for key in found)
    ours = [{n: v for n, v in each.items() if n.startswith("X-Amz-Meta-")} for each in found.values()]
    callback = {"X-Amz-Meta-Callback": "http://localhost:5000"}
    data = '{"mp3":"\\u00e4.mp3","data":"to be returned"}'
    for expected in (
        {"X-Amz-Meta-Model": "htdemucs"},
        {**callback, "X-Amz-Meta-Callback-Data": data},
        {**callback, "X-Amz-Meta-Callback-Data": "null"},
        {},
    ):
        assert expected in ours


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"mp3": "AAA', 400, "not JSON"),
        ({"mp3": "AAA"}, 400, "mp3: not base64"),
        ({"mp3": 5}, 400, "mp3: must be a string"),
        ({"model": "demo"}, 400, "mp3 is missing"),
        ({"mp3": "AAAA", "model": 5}, 400, "model=5: must be a string"),
        ({"mp3": "AAAA", "model": "../x"}, 422, "model=../x"),
        ({"mp3": "AAAA", "callback": "http://x"}, 400, 'callback="http://x": must be an object'),
        ({"mp3": "AAAA", "callback": {"url": 5}}, 400, "callback.url=5: must be a string"),
        ({"mp3": "AAAA", "callback": {"url": "ftp://x"}}, 422, "callback=ftp://x"),
        ({"mp3": "AAAA", "callback": {"url": "http://x", "data": "y" * 3000}}, 400, "at most 2000"),
        ({"mp3": "AAAA", "x": "y" * 70_000}, 413, "beside mp3"),
        (b'{"mp3": "' + b"A" * 2_000_000 + b"!AAAAAAA", 400, "mp3: not base64"),
        (b'{"mp3": "' + b"A" * 28_000_000 + b'"}', 413, "mp3: at most 20000000 bytes"),
    ],
)
def test_what_is_wrong_is_told(stack: Stack, body: object, status: int, words: str) -> None:
    problem(post(stack, body), status, words)
    assert uploads(stack) == {}


def test_a_body_that_ends_early(stack: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports["tracks"], timeout=20)
    connection.putrequest("POST", "/apiv1/separate")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b'{"mp3": "AAAA')
    connection.close()
    assert post(stack, {"mp3": ENCODED}).status == 200, "and the next one is served"


def test_a_body_without_a_length(stack: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports["tracks"], timeout=20)
    body = json.dumps({"mp3": ENCODED}).encode()
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
    connection.request(
        "POST", "/apiv1/separate", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert json.loads(connection.getresponse().read())["hash"] == HASH
    connection.close()


def test_memory_does_not_grow_with_the_song(stack: Stack) -> None:
    post(stack, {"mp3": ENCODED})
    (stack.worker() / "clear_refs").write_text("5")  # the peak of its memory counts from now
    before = stack.rss_mb()
    song = random.Random(1).randbytes(19 * MB)
    assert post(stack, {"mp3": base64.b64encode(song).decode()}).status == 200
    (size,) = [item.size for item in stack.s3.list_objects("queue", recursive=True) if item.size != len(SONG)]
    assert size == len(song)
    (peak,) = (line for line in (stack.worker() / "status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) / 1024 - before < 30, "a part of the upload, twice, and not the song"


def test_the_queue_shows_hashes(stack: Stack) -> None:
    for path in ("/apiv1/queue", "/apiv1/queue/"):
        answer = stack.get(path)
        assert (answer.status, json.loads(answer.data)) == (200, {"queue": []})
    other = "f" * 64
    jobs = {}
    for number, key in enumerate([f"apiv1/{HASH}.mp3", f"apiv1/{'0' * 16}/{HASH}.mp3", "a.mp3", "b.mp3"]):
        upload = Upload("queue", key, "e", number, {})
        jobs[key] = upload.job
        fields = {"state": "waiting", "bucket": "queue", "key": key, "etag": "e", "uploaded_ms": number}
        stack.redis.hset(naming.job_key(upload.job), mapping=fields)
        stack.redis.zadd(naming.WAITING, {upload.job: number})
    stack.redis.hset(naming.job_key(jobs["b.mp3"]), "songhash", other)
    assert json.loads(stack.get("/apiv1/queue").data) == {"queue": [HASH, jobs["a.mp3"], other]}


def test_a_song_is_in_the_queue_as_soon_as_it_is_taken(stack: Stack) -> None:
    """Stands in for MinIO, which tells Redis some milliseconds after the upload."""
    record = {
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-11-22T05:00:00.000Z",
        "s3": {
            "bucket": {"name": "queue"},
            "object": {"key": f"apiv1%2F{HASH}.mp3", "eTag": hashlib.md5(SONG).hexdigest()},
        },
    }
    stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [record]}]))
    post(stack, {"mp3": ENCODED})
    assert json.loads(stack.get("/apiv1/queue").data) == {"queue": [HASH]}


def test_tracks_under_all_their_names(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG, bass_mp3=SONG[::-1], drums_flac=b"flac")
    base = f"/apiv1/track/{track.songhash}"
    for name, expected in {
        "vocals": SONG,
        "vocals.mp3": SONG,
        "bass": SONG[::-1],
        "base": SONG[::-1],
        "base.mp3": SONG[::-1],
        "drums": b"flac",
    }.items():
        answer = stack.get(f"{base}/{name}")
        assert (answer.status, answer.data) == (200, expected), name
    assert stack.get(f"{base}/vocals").headers["Content-Type"] == "audio/mpeg"
    assert stack.get(f"{base}/vocals", {"Range": "bytes=0-9"}).data == SONG[:10]
    problem(stack.get(f"{base}/drums.mp3"), 404, "drums.flac")
    problem(stack.get(f"{base}/piano"), 404, "no stem piano")
    problem(stack.get(f"/apiv1/track/{'0' * 64}/vocals"), 404, "no track")
    problem(stack.get("/apiv1/track/x/vocals"), 400, "songhash=x")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_one_stem_is_removed_and_the_rest_stays(stack: Stack, method: str) -> None:
    track = stack.put(1, vocals_mp3=SONG, vocals_flac=b"flac", bass_mp3=SONG)
    stack.index.add(track)
    answer = stack.get(f"/apiv1/remove/{track.songhash}/vocals", JSON, method)
    assert answer.status == 200
    assert json.loads(answer.data) == {"hash": track.songhash, "track": "vocals", "reason": "Track removed"}
    problem(stack.get(f"/apiv1/track/{track.songhash}/vocals"), 404, "it has bass.mp3")
    assert stack.get(f"/apiv1/track/{track.songhash}/bass").data == SONG
    names = {item.object_name for item in stack.s3.list_objects("output")}
    assert names == {f"{track.songhash}.json", f"{track.songhash}-bass.mp3"}
    (listed,) = json.loads(stack.get("/v1/tracks").data)["tracks"]
    assert [stem["stem"] for stem in listed["stems"]] == ["bass"]
    problem(stack.get(f"/apiv1/remove/{track.songhash}/vocals", JSON, method), 404, "no stem vocals")


def test_of_several_formats_one_may_be_named(stack: Stack) -> None:
    track = stack.put(1, bass_mp3=SONG, bass_flac=b"flac")
    assert stack.get(f"/apiv1/remove/{track.songhash}/base.mp3", JSON).status == 200
    assert stack.get(f"/apiv1/track/{track.songhash}/bass").data == b"flac"


def test_with_its_last_stem_the_track_goes(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG)
    etag = stack.s3.put_object("queue", track.key, BytesIO(SONG), len(SONG)).etag
    stack.put_object(naming.record_object(track.songhash), track.to_json().replace(b"e" * 32, str(etag).encode()))
    stack.index.add(track)
    assert stack.get(f"/apiv1/remove/{track.songhash}/vocals.mp3", method="DELETE").status == 200
    assert list(stack.s3.list_objects("output")) == []
    assert json.loads(stack.get("/v1/tracks").data)["tracks"] == []
    assert dict(stack.s3.get_object_tags("queue", track.key) or {}).get("state") == "removed"
    problem(stack.get(f"/apiv1/remove/{track.songhash}/vocals.mp3", JSON), 404, "no track")


def test_what_removes_nothing(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG)
    path = f"/apiv1/remove/{track.songhash}/vocals"
    assert stack.get(path, method="HEAD").status == 400
    assert stack.get(path, method="POST").status == 405
    problem(stack.get("/apiv1/remove/x/vocals", JSON), 400, "songhash=x")
    with lease.held(stack.redis, track.songhash, 10):
        problem(stack.get(path, JSON), 409, "another worker")
    assert stack.get(f"/apiv1/track/{track.songhash}/vocals").status == 200


def test_without_redis_songs_are_taken_all_the_same(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG, bass_mp3=SONG)
    stack.kill("redis")
    try:
        assert post(stack, {"mp3": ENCODED}).status == 200
        problem(stack.get("/apiv1/queue"), 503, "Redis")
        assert stack.get(f"/apiv1/track/{track.songhash}/vocals").data == SONG
        assert stack.get(f"/apiv1/remove/{track.songhash}/vocals", JSON).status == 200
    finally:
        stack.start("redis")
    until(lambda: stack.get("/health/ready").status == 200)
    assert list(uploads(stack)) == [f"apiv1/{HASH}.mp3"]


def test_somebody_answers_at_the_root(stack: Stack) -> None:
    answer = stack.get("/")
    assert answer.status == 200
    assert json.loads(answer.data)["name"] == "stems"
