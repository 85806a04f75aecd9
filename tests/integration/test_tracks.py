"""The REST function as its users meet it: gunicorn, MinIO and Redis are real, tracks are put in the bucket by hand."""

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis
import urllib3
from minio import Minio

from stems import jobs, naming
from stems.config import Settings
from stems.index import Index
from stems.record import ModelInfo, Stem, Track
from stems.storage import Storage
from stems.tracks import app as tracks_app
from tests.programs import CHECKOUT, need

USER, PASSWORD = "tracks-test", "tracks-test-secret"
CONFIG = CHECKOUT / "functions" / "stems" / "tracks" / "gunicorn.conf.py"
SONG = bytes(range(256)) * 4  # 1024 bytes, every one known by its place
MB = 1 << 20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except (OSError, urllib3.exceptions.HTTPError, redis.RedisError):
            pass
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


class Stack:
    """MinIO, Redis and the function, each to be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("minio", "redis", "tracks")}
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        # The two names of this machine stand for the endpoint inside and the one for people.
        self.environ = {
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['minio']}",
            "STEMS_S3_PUBLIC_ENDPOINT": f"http://localhost:{self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": USER,
            "STEMS_S3_SECRET_KEY": PASSWORD,
            "STEMS_REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
        }
        self.settings = Settings.from_env(self.environ)
        self.http = urllib3.PoolManager(retries=False, timeout=20)
        self.s3 = Minio(f"127.0.0.1:{self.ports['minio']}", USER, PASSWORD, secure=False, http_client=self.http)
        self.redis: Any = jobs.connect(self.settings)
        self.index = Index(self.redis, Storage(self.settings))

    def start(self, name: str) -> None:
        port = str(self.ports[name])
        if name == "minio":
            data = str(self.folder / "minio")
            command = [need("minio"), "server", data, "--address", f"127.0.0.1:{port}", "--console-address"]
            command.append(f"127.0.0.1:{free_port()}")
            environ = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD}
        elif name == "redis":
            command = [need("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", ""]
            environ = {}
        else:
            command = [sys.executable, "-m", "gunicorn", "--config", str(CONFIG), "stems.tracks.app:create_app()"]
            environ = {**self.environ, "PORT": port, "PYTHONPATH": str(CHECKOUT / "functions")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(
                command, env={**os.environ, **environ}, cwd=self.folder, stdout=log, stderr=log
            )
        ready: Mapping[str, Callable[[], object]] = {
            "minio": lambda: self.http.request("GET", f"http://127.0.0.1:{port}/minio/health/ready").status == 200,
            "redis": self.redis.ping,
            "tracks": lambda: self.get("/health/live").status == 200,
        }
        wait_for(ready[name])

    def kill(self, name: str) -> None:
        program = self.programs.pop(name)
        program.send_signal(signal.SIGTERM if name == "tracks" else signal.SIGKILL)
        program.wait(40)

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Any:
        url = f"http://127.0.0.1:{self.ports['tracks']}{path}"
        return self.http.request(method, url, headers=headers, redirect=False)

    def open(self, path: str) -> Any:
        """Ask with a client of its own and leave the body unread."""
        pool = urllib3.HTTPConnectionPool("127.0.0.1", self.ports["tracks"], timeout=20)
        response = pool.request("GET", path, preload_content=False, retries=False)
        assert response.status in (200, 206)
        return response

    def put(self, number: int, *, name: str = "Song.mp3", created_ms: int | None = None, **stems: bytes) -> Track:
        """Put a track in the bucket: stems are given as `vocals_mp3=...`."""
        songhash = hashlib.sha256(str(number).encode()).hexdigest()
        made = tuple(self.put_stem(songhash, *given.split("_"), body=body) for given, body in stems.items())
        model = ModelInfo("htdemucs", "0" * 64, False, "fp32")
        created_ms = 1_700_000_000_000 + number if created_ms is None else created_ms
        track = Track(
            songhash,
            name,
            "queue",
            f"in/{name}",
            "e" * 32,
            180.5,
            44100,
            2,
            model,
            created_ms,
            made,
            {"fetch": 0.1},
        )
        self.put_object(naming.record_object(songhash), track.to_json())
        return track

    def put_stem(self, songhash: str, stem: str, format: str, *, body: bytes) -> Stem:
        name = naming.stem_object(songhash, stem, format)
        return Stem(stem, format, name, len(body), self.put_object(name, body), 0.0)

    def put_object(self, name: str, body: bytes) -> str:
        return self.s3.put_object("output", name, io.BytesIO(body), len(body)).etag or ""

    def clear(self) -> None:
        for item in self.s3.list_objects("output"):
            self.s3.remove_object("output", item.object_name or "")
        self.redis.flushall()

    def worker(self) -> Path:
        """The folder in /proc of gunicorn's worker."""
        master = self.programs["tracks"].pid
        (child,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return Path("/proc") / child

    def rss_mb(self) -> float:
        (line,) = (line for line in (self.worker() / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("tracks"))
    try:
        for name in ("minio", "redis"):
            stack.start(name)
        stack.s3.make_bucket("output")
        stack.start("tracks")
        yield stack
        assert "unforeseen error" not in (stack.folder / "tracks.log").read_text()
    finally:
        for name in list(stack.programs):
            stack.kill(name)
        stack.redis.close()
        stack.http.clear()


@pytest.fixture
def empty(stack: Stack) -> Stack:
    """The stack without a track."""
    stack.clear()
    return stack


def problem(response: Any, status: int, *words: str) -> None:
    """Assert that the answer is a problem of this status whose detail has these words."""
    assert response.status == status, response.data
    assert response.headers["Content-Type"] == "application/problem+json"
    body = json.loads(response.data)
    assert body["status"] == status
    for word in words:
        assert word in body["detail"]
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1


def url(track: Track, stem: str = "vocals.mp3") -> str:
    return f"/v1/tracks/{track.songhash}/{stem}"


# The list


def test_pages_show_each_track_once_while_others_arrive(empty: Stack) -> None:
    # Threes of one millisecond, so that the order within it matters, too.
    old = [empty.put(n, created_ms=1_700_000_000_000 + n // 3) for n in range(25)]
    expected = [t.songhash for t in sorted(old, key=lambda t: (t.created_ms, t.songhash), reverse=True)]
    seen: list[str] = []
    path, number = "/v1/tracks?limit=4", 100
    while path:
        answer = empty.get(path)
        body = json.loads(answer.data)
        seen += [track["songhash"] for track in body["tracks"]]
        assert answer.headers.get("Link") == (f'<{body["next"]}>; rel="next"' if body["next"] else None)
        path = body["next"]
        # Another song is separated, and the last one seen once more: both belong on the first page.
        empty.index.add(empty.put(number))
        number += 1
        last = next(t for t in old if t.songhash == seen[-1])
        empty.index.add(empty.put(old.index(last), created_ms=1_700_000_001_000 + number))
    assert seen == expected


def test_the_list_comes_back_from_the_bucket_when_redis_has_lost_it(empty: Stack) -> None:
    tracks = [empty.put(n, vocals_mp3=b"v") for n in range(5)]
    empty.put_object(naming.record_object("f" * 64), b"{damaged")
    empty.put_object("readme.txt", b"not ours")
    expected = [track.songhash for track in reversed(tracks)]
    for _ in range(2):
        body = json.loads(empty.get("/v1/tracks").data)
        assert [track["songhash"] for track in body["tracks"]] == expected
        assert body["next"] is None
        empty.redis.flushall()


def test_an_empty_list_is_a_list(empty: Stack) -> None:
    assert json.loads(empty.get("/v1/tracks").data) == {"tracks": [], "next": None}


@pytest.mark.parametrize(
    "wrong",
    ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=", "limit=1_0", "cursor=", "cursor=abc", "cursor=1-z"],
)
def test_a_wrong_parameter_is_named(stack: Stack, wrong: str) -> None:
    problem(stack.get(f"/v1/tracks?{wrong}"), 400, wrong)


def test_a_track_has_all_that_a_player_needs(empty: Stack) -> None:
    track = empty.put(1, name="Später.mp3", created_ms=1_700_000_000_123, vocals_mp3=SONG, vocals_flac=b"flac")
    answer = empty.get(f"/v1/tracks/{track.songhash}")
    body = json.loads(answer.data)
    assert body == json.loads(empty.get("/v1/tracks").data)["tracks"][0]
    assert body["name"] == "Später.mp3"
    assert body["created"] == "2023-11-14T22:13:20.123Z"
    assert [stem["url"] for stem in body["stems"]] == [url(track), url(track, "vocals.flac")]
    assert [stem["size"] for stem in body["stems"]] == [1024, 4]
    for stem in body["stems"]:
        assert empty.get(stem["url"]).headers["ETag"] == f'"{stem["etag"]}"'
    unchanged = empty.get(f"/v1/tracks/{track.songhash}", {"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status, unchanged.data) == (304, b"")


def test_what_is_unknown_is_not_found(empty: Stack) -> None:
    track = empty.put(1, vocals_mp3=SONG)
    empty.put_object(naming.record_object("f" * 64), b"[]")
    for path in (f"/v1/tracks/{'0' * 64}", f"/v1/tracks/{'f' * 64}", f"/v1/tracks/{'0' * 64}/vocals.mp3"):
        problem(empty.get(path), 404, path.split("/")[3])
    for stem in ("drums", "vocals.flac", "vocals.", "vocals.mp3.mp3"):
        problem(empty.get(url(track, stem)), 404, stem, "vocals.mp3")
    for path in ("/v1/tracks/abc", f"/v1/tracks/{'A' * 64}", "/v1/tracks/abc/vocals"):
        problem(empty.get(path), 400, "songhash", path.split("/")[3])
    for path in ("/v1", "/v1/tracks/", "/favicon.ico"):
        problem(empty.get(path), 404)
    for path in ("/v1/tracks", "/v1/queue", url(track), "/"):
        refused = empty.get(path, method="PATCH")
        problem(refused, 405)
        assert "GET" in refused.headers["Allow"]


# The bytes


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-99", 206, 0, 99),
        ("bytes=1000-", 206, 1000, 1023),
        ("bytes=1000-5000", 206, 1000, 1023),
        ("bytes=1023-1023", 206, 1023, 1023),
        ("bytes=-24", 206, 1000, 1023),
        ("bytes=-5000", 206, 0, 1023),
        ("Bytes=7-7", 206, 7, 7),
        ("bytes=0-1,5-6", 200, 0, 1023),
        ("bytes=9-5", 200, 0, 1023),
        ("bytes=a-b", 200, 0, 1023),
        ("bytes=-", 200, 0, 1023),
        ("lines=0-1", 200, 0, 1023),
    ],
)
def test_ranges(stack: Stack, asked: str, status: int, first: int, last: int) -> None:
    answer = stack.get(url(stack.put(1, vocals_mp3=SONG)), {"Range": asked})
    assert answer.status == status
    assert answer.data == SONG[first : last + 1]
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers.get("Content-Range") == (f"bytes {first}-{last}/1024" if status == 206 else None)


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_the_stem(stack: Stack, asked: str) -> None:
    answer = stack.get(url(stack.put(1, vocals_mp3=SONG)), {"Range": asked})
    problem(answer, 416)
    assert answer.headers["Content-Range"] == "bytes */1024"


def test_an_interrupted_download_goes_on_unless_the_stem_has_changed(stack: Stack) -> None:
    path = url(stack.put(1, vocals_mp3=SONG))
    begun = stack.open(path)
    got = begun.read(300)
    begun.close()
    rest = stack.get(path, {"Range": f"bytes={len(got)}-", "If-Range": begun.headers["ETag"]})
    assert (rest.status, got + rest.data) == (206, SONG)
    stack.put(1, vocals_mp3=SONG[::-1])
    for condition in (begun.headers["ETag"], "Wed, 21 Oct 2015 07:28:00 GMT"):
        again = stack.get(path, {"Range": "bytes=300-", "If-Range": condition})
        assert (again.status, again.data) == (200, SONG[::-1])
    problem(stack.get(path, {"If-Match": begun.headers["ETag"]}), 412)


def test_head_says_what_get_would(stack: Stack) -> None:
    path = url(stack.put(1, vocals_mp3=SONG), "vocals")
    told, got = stack.get(path, {"Range": "bytes=0-1"}, "HEAD"), stack.get(path)
    assert (told.status, told.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Accept-Ranges", "Cache-Control"):
        assert told.headers[name] == got.headers[name]
    assert got.headers["Content-Type"] == "audio/mpeg"
    assert got.headers["Accept-Ranges"] == "bytes"
    assert got.headers["Cache-Control"] == "no-cache"


def test_without_an_extension_the_first_format_is_served(stack: Stack) -> None:
    track = stack.put(1, vocals_flac=b"flac", vocals_wav=b"", vocals_mp3=b"mp3")
    kinds = {"vocals": "audio/flac", "vocals.flac": "audio/flac", "vocals.wav": "audio/wav", "vocals.mp3": "audio/mpeg"}
    for stem, kind in kinds.items():
        assert stack.get(url(track, stem)).headers["Content-Type"] == kind
    assert stack.get(url(track, "vocals.wav")).data == b""


def test_what_the_client_has_is_not_read_again(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG)
    etag = track.stems[0].etag
    stack.s3.remove_object("output", track.stems[0].object)
    for condition in (f'"{etag}"', f'W/"{etag}"', f'"other", "{etag}"', "*"):
        answer = stack.get(url(track), {"If-None-Match": condition})
        assert (answer.status, answer.data, answer.headers["ETag"]) == (304, b"", f'"{etag}"')
    problem(stack.get(url(track), {"If-None-Match": '"other"'}), 404)


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("Song.mp3", "Song - vocals.mp3", None),
        ("Mr. Brightside", "Mr. Brightside - vocals.mp3", None),
        ("Take 1.5.m4a", "Take 1.5 - vocals.mp3", None),
        ("Motörhead – Ace.flac", "Motorhead  Ace - vocals.mp3", "Motörhead – Ace - vocals.mp3"),
        ("全日本🎵.mp3", "song - vocals.mp3", "全日本🎵 - vocals.mp3"),
        ('a"b\\c\r\nX-Evil: 1.mp3', "a_b_c__X-Evil: 1 - vocals.mp3", None),
    ],
)
def test_the_download_is_named_after_the_song(stack: Stack, name: str, plain: str, full: str | None) -> None:
    answer = stack.get(url(stack.put(1, name=name, vocals_mp3=SONG)))
    expected = f'attachment; filename="{plain}"' + (f"; filename*=UTF-8''{quote(full)}" if full else "")
    assert answer.headers["Content-Disposition"] == expected
    assert "X-Evil" not in answer.headers


def test_the_redirect_needs_no_credentials(stack: Stack) -> None:
    track = stack.put(1, name="Später.mp3", vocals_mp3=SONG)
    answer = stack.get(url(track) + "?redirect=1")
    location = answer.headers["Location"]
    assert answer.status == 307
    assert urlsplit(location).netloc == f"localhost:{stack.ports['minio']}"
    direct = stack.http.request("GET", location, headers={"Range": "bytes=-24"})
    assert (direct.status, direct.data) == (206, SONG[-24:])
    proxied = stack.get(url(track) + "?redirect=0")
    assert proxied.data == SONG
    for name in ("Content-Type", "Content-Disposition", "ETag"):
        assert direct.headers[name] == proxied.headers[name]
    problem(stack.get(url(track) + "?redirect=yes"), 400, "redirect=yes")


def test_the_bytes_are_those_of_the_record_or_none(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG)
    stack.put_object(track.stems[0].object, SONG[::-1])
    problem(stack.get(url(track)), 404, "overwritten")
    stack.put(1, vocals_mp3=SONG[::-1])
    assert stack.get(url(track)).data == SONG[::-1]
    stack.s3.remove_object("output", track.stems[0].object)
    problem(stack.get(url(track)), 404)


def test_a_song_separated_again_during_the_request_is_served_anew(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [stack.put(1, vocals_mp3=SONG), stack.put(1, vocals_mp3=SONG[:100])]
    monkeypatch.setattr(Storage, "track", lambda self, songhash: records.pop(0))
    client = tracks_app.create_app(stack.settings).test_client()
    answer = client.get(f"/v1/tracks/{records[0].songhash}/vocals", headers={"Range": "bytes=-10"})
    assert (answer.status_code, answer.data) == (206, SONG[90:100])
    assert answer.headers["Content-Range"] == "bytes 90-99/100"


# What stands in line


def test_the_queue_shows_what_waits_runs_and_failed(empty: Stack) -> None:
    def job(number: int, state: str, **values: object) -> str:
        name = naming.job_id("queue", f"in/{number}.mp3", "e")
        values = {"bucket": "queue", "key": f"in/{number}.mp3", "etag": "e", "uploaded_ms": 1_700_000_000_000, **values}
        empty.redis.hset(naming.job_key(name), mapping={"state": state, **values})
        return name

    waiting = {job(number, "waiting"): number for number in range(3)}
    empty.redis.zadd(naming.WAITING, waiting)
    running = job(10, "separating", progress="0.25", songhash="a" * 64)
    empty.redis.zadd(naming.RELAYS, {"relay": 1})
    empty.redis.sadd(naming.delivering_key("relay"), running)
    empty.redis.hset(naming.ATTEMPTS, running, 2)
    empty.redis.zadd(naming.DEAD, {job(20, "failed", error="no song", attempts=5): 1})
    record = {"s3": {"bucket": {"name": "queue"}, "object": {"key": "in/a+b%C3%A4.mp3", "eTag": "x"}}}
    record["eventTime"] = "2023-11-14T22:13:20.000Z"  # type: ignore[assignment]
    empty.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [record]}]))

    body = json.loads(empty.get("/v1/queue").data)
    assert {part: body[part]["count"] for part in body} == {"waiting": 4, "running": 1, "failed": 1}
    assert [one["name"] for one in body["waiting"]["jobs"]] == ["0.mp3", "1.mp3", "2.mp3", "a bä.mp3"]
    assert body["running"]["jobs"] == [
        {
            "id": running,
            "name": "10.mp3",
            "key": "in/10.mp3",
            "state": "separating",
            "progress": 0.25,
            "attempts": 2,
            "error": None,
            "songhash": "a" * 64,
            "uploaded": "2023-11-14T22:13:20.000Z",
        }
    ]
    failed = body["failed"]["jobs"][0]
    assert (failed["state"], failed["error"], failed["attempts"]) == ("failed", "no song", 5)
    cut = json.loads(empty.get("/v1/queue?limit=1").data)["waiting"]
    assert (cut["count"], len(cut["jobs"])) == (4, 1)
    problem(empty.get("/v1/queue?limit=0"), 400, "limit=0")


# What is away


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


# What grows


def test_a_big_stem_takes_no_memory(stack: Stack, tmp_path: Path) -> None:
    track, size = stack.put(1, vocals_wav=b""), 200 * MB
    sparse = tmp_path / "big"
    with sparse.open("wb") as file:
        file.truncate(size)
    name = track.stems[0].object
    etag = stack.s3.fput_object("output", name, str(sparse), part_size=64 * MB).etag or ""
    record = track.to_dict() | {
        "stems": [{"stem": "vocals", "format": "wav", "object": name, "size": size, "etag": etag, "gain_db": 0.0}]
    }
    stack.put_object(naming.record_object(track.songhash), json.dumps(record).encode())
    before = stack.rss_mb()
    most, length = before, 0
    with stack.open(url(track, "vocals.wav")) as response:
        for number, chunk in enumerate(response.stream(MB)):
            length += len(chunk)
            if number % 20 == 0:
                most = max(most, stack.rss_mb())
    assert length == size
    assert most - before < 30
    assert "-" in etag  # put in parts, as encoders' big files are


def test_clients_that_go_away_leave_nothing_open(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=bytes(32 * MB))
    files = stack.worker() / "fd"

    def opened() -> int:
        return len(list(files.iterdir()))

    stack.get(url(track))
    before = opened()
    for number in range(100):
        response = stack.open(url(track))
        response.read(1 + number * 1000)
        response.close()
    # One connection to MinIO for each of the 16 threads may be kept.
    wait_for(lambda: opened() <= before + 16)
    answer = stack.get(url(track))
    assert (answer.status, answer.data == bytes(32 * MB)) == (200, True)
