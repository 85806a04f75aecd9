"""The function `separate` as its callers see it: any CloudEvents client may post to it."""

import hashlib
import json
import threading
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_structured_event

from stems.config import Settings
from stems.contract import SECRET_HEADER, TYPE_GONE, TYPE_SEPARATED, Upload, to_http
from stems.errors import BadAudio
from stems.storage import Storage
from tests.pipeline import Pipeline, song, wait_for


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


def post(pipeline: Pipeline, headers: dict[str, str], body: bytes) -> Answer:
    url = f"http://127.0.0.1:{pipeline.stack.ports['separate']}/"
    headers = {SECRET_HEADER: pipeline.stack.keys["sink"], **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.load(answer))
    except urllib.error.HTTPError as error:
        return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, json.load(error))


def uploaded(pipeline: Pipeline, path: Path, key: str) -> Upload:
    """Upload a file and return the upload as a sweep would announce it."""
    etag = pipeline.put(path, key)
    stat = pipeline.s3.stat_object("queue", key)
    assert stat.last_modified is not None
    return Upload.from_listing("queue", key, etag, stat.size or 0, stat.last_modified)


@pytest.fixture(scope="module")
def separated(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Upload:
    path = song(tmp_path_factory.mktemp("songs") / "event.wav", seed=200)
    upload = uploaded(pipeline, path, "a folder/event.wav")
    pipeline.done("a folder/event.wav", upload.etag)
    return upload


def test_the_answer_is_an_event_that_carries_the_record(pipeline: Pipeline, separated: Upload) -> None:
    for headers, body in (to_http(separated.to_event()), structured(separated)):
        answer = post(pipeline, headers, body)
        assert answer.status == 200
        assert answer.headers["ce-type"] == TYPE_SEPARATED
        assert answer.headers["ce-subject"] == "a%20folder/event.wav"
        assert answer.body["key"] == "a folder/event.wav"
        assert {stem["stem"] for stem in answer.body["stems"]} == {"drums", "bass", "other", "vocals"}


def structured(upload: Upload) -> tuple[dict[str, str], bytes]:
    message = to_structured_event(upload.to_event())
    return dict(message.headers), bytes(message.body)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "application/json"}, b'{"no": "event"}'),
        ({"content-type": "application/cloudevents+json"}, b"not json"),
        ({"ce-id": "1", "ce-source": "x", "ce-type": "y", "ce-specversion": "1.0"}, b"{}"),
    ],
)
def test_what_is_no_upload_is_refused_for_good(pipeline: Pipeline, headers: dict[str, str], body: bytes) -> None:
    answer = post(pipeline, headers, body)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body["title"] == "BadNotification"


def test_an_upload_that_is_not_there_is_gone(pipeline: Pipeline, separated: Upload) -> None:
    record = json.loads(json.dumps(separated.record))
    record["s3"]["object"]["key"] = "never"
    answer = post(pipeline, *to_http(Upload.from_record(record).to_event()))
    assert (answer.status, answer.headers["ce-type"]) == (200, TYPE_GONE)
    assert answer.body["reason"] == "queue/never is not there any more"


@pytest.mark.timeout(300)
def test_a_worker_takes_one_song_at_a_time_and_nobody_takes_it_twice(pipeline: Pipeline, tmp_path: Path) -> None:
    long = uploaded(pipeline, song(tmp_path / "long.wav", seed=201, duration_s=60), "taken.wav")
    wait_for("the start", lambda: pipeline.job("taken.wav", long.etag).get("progress", "0") > "0.1")
    pipeline.stack.control("stop", "pipeline:relay")  # the events here are ours
    try:
        same = post(pipeline, *to_http(long.to_event()))
        assert same.status == 409
        assert 1 <= int(same.headers["retry-after"]) <= 2
        assert "another worker" in same.body["detail"]
        other = uploaded(pipeline, song(tmp_path / "other.wav", seed=202), "other.wav")
        answers: list[Answer] = []

        def ask() -> None:  # it waits for its turn for 20 s, which a slow machine may need more than once
            while not answers or answers[-1].status == 429:
                answers.append(post(pipeline, *to_http(other.to_event())))

        waiting = threading.Thread(target=ask)
        waiting.start()
        health = f"http://127.0.0.1:{pipeline.stack.ports['separate']}/health/ready"
        with urllib.request.urlopen(health, timeout=5) as answer:
            assert answer.status == 200
        waiting.join()
        assert answers[-1].status == 200
        assert pipeline.tags("taken.wav")["state"] == "done"
    finally:
        pipeline.stack.control("start", "pipeline:relay")
    pipeline.done("taken.wav", long.etag)
    pipeline.done("other.wav", other.etag)


def test_two_deliveries_at_once_make_one_separation(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.stack.control("stop", "pipeline:relay")
    try:
        upload = uploaded(pipeline, song(tmp_path / "both.wav", seed=203, duration_s=20), "both.wav")
        answers: list[Answer] = []
        event = to_http(upload.to_event())
        threads = [threading.Thread(target=lambda: answers.append(post(pipeline, *event))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status for answer in answers) == [200, 409]
    finally:
        pipeline.stack.control("start", "pipeline:relay")
    pipeline.done("both.wav", upload.etag)


def test_redis_away_is_no_failure_of_a_song(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "redisless.wav", seed=204, duration_s=60)
    etag = pipeline.put(path, "redisless.wav")
    wait_for("the start", lambda: pipeline.job("redisless.wav", etag).get("progress", "0") > "0.1")
    pipeline.stack.control("stop", "redis")
    try:
        wait_for("the record", lambda: hashlib.sha256(path.read_bytes()).hexdigest() in records(pipeline))
    finally:
        pipeline.stack.control("start", "redis")
    assert pipeline.settled("redisless.wav", etag)["state"] == "done"
    listed = wait_for("the list", lambda: pipeline.get("/v1/tracks").get("tracks"))
    assert "redisless.wav" in [track["name"] for track in listed]


def records(pipeline: Pipeline) -> list[str]:
    found = pipeline.s3.list_objects("output")
    return [(item.object_name or "").removesuffix(".json") for item in found]


@pytest.mark.parametrize("secret", ["", "0" * 32, "ä"])
def test_who_does_not_know_the_secret_is_refused(pipeline: Pipeline, separated: Upload, secret: str) -> None:
    headers, body = to_http(separated.to_event())
    answer = post(pipeline, {**headers, SECRET_HEADER: secret}, body)
    assert answer.status == 401
    assert pipeline.stack.keys["sink"] not in str(answer)


@pytest.mark.parametrize("bucket", ["output", "queue2", "../queue", "Queue"])
def test_an_event_of_another_bucket_is_refused(pipeline: Pipeline, separated: Upload, bucket: str) -> None:
    record = json.loads(json.dumps(dict(separated.record)))
    record["s3"]["bucket"]["name"] = bucket
    headers, body = to_http(Upload.from_record(record).to_event())
    answer = post(pipeline, headers, body)
    assert (answer.status, answer.body["title"]) == (400, "BadNotification")
    assert repr(bucket) in answer.body["detail"]


def test_an_event_that_is_too_long_is_not_read(pipeline: Pipeline, separated: Upload) -> None:
    headers, _ = to_http(separated.to_event())
    headers |= {SECRET_HEADER: pipeline.stack.keys["sink"], "Content-Length": str((1 << 20) + 1)}
    with closing(HTTPConnection("127.0.0.1", pipeline.stack.ports["separate"], timeout=60)) as connection:
        connection.request("POST", "/", headers=headers)  # and not a byte of it is sent
        assert connection.getresponse().status == 413


def test_an_upload_that_is_too_large_is_not_fetched(pipeline: Pipeline, separated: Upload, tmp_path: Path) -> None:
    settings = Settings.from_env(pipeline.stack.environ("separate"))
    size = separated.record["s3"]["object"]["size"]
    with pytest.raises(BadAudio, match=rf"has {size} bytes; STEMS_MAX_BYTES allows {size - 1}"):
        Storage(settings).fetch(separated, tmp_path / "upload", size - 1)
    assert not (tmp_path / "upload").exists()
    for allowed in (size, 0):
        assert Storage(settings).fetch(separated, tmp_path / "upload", allowed).size == size
