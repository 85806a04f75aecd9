"""The command line against real servers: MinIO, Redis, and the function `tracks` as `stems serve` runs it."""

import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from minio import Minio

from stems import jobs, naming
from stems.cli import main
from stems.config import Settings
from stems.contract import Upload
from stems.index import Index
from stems.record import ModelInfo, Stem, Track
from stems.storage import Storage
from tests.programs import need

USER, PASSWORD = "cli-test", "cli-test-secret"
KEY = "in/夜に駆ける.mp3"


class Service:
    """Where the servers are, and clients of them."""

    def __init__(self) -> None:
        self.ports = {name: free_port() for name in ("minio", "console", "redis", "tracks")}
        self.environ = {
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": USER,
            "STEMS_S3_SECRET_KEY": PASSWORD,
            "STEMS_REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "STEMS_URL": f"http://127.0.0.1:{self.ports['tracks']}",
        }
        self.settings = Settings.from_env(self.environ)
        self.s3 = Minio(f"127.0.0.1:{self.ports['minio']}", USER, PASSWORD, secure=False)
        self.redis: Any = jobs.connect(self.settings)

    def wait(self) -> None:
        for path in (
            f"{self.settings.s3_endpoint}/minio/health/ready",
            f"{self.settings.tracks_url}/health/live",
        ):
            wait_for(lambda path=path: urllib.request.urlopen(path, timeout=5).close() or True)  # type: ignore[misc]
        wait_for(self.redis.ping)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(OSError, urllib.error.URLError, redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


@contextmanager
def program(*arguments: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a process of its own."""
    environ = {**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "stems.cli", *arguments]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, service = tmp_path_factory.mktemp("cli"), Service()
    port = {name: str(number) for name, number in service.ports.items()}
    minio = [need("minio"), "server", str(folder / "minio"), "--address", f"127.0.0.1:{port['minio']}"]
    commands = [
        [*minio, "--console-address", f"127.0.0.1:{port['console']}"],
        [need("redis-server"), "--port", port["redis"], "--bind", "127.0.0.1", "--save", ""],
        [sys.executable, "-m", "stems.cli", "serve", "tracks", "--port", port["tracks"]],
    ]
    root = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "PYTHONPATH": os.pathsep.join(sys.path)}
    environ = {**os.environ, **service.environ, **root}
    with (folder / "log").open("ab") as log:
        running = [subprocess.Popen(each, env=environ, cwd=folder, stdout=log, stderr=log) for each in commands]
    try:
        service.wait()
        for bucket in (naming.QUEUE_BUCKET, naming.OUTPUT_BUCKET):
            service.s3.make_bucket(bucket)
        yield service
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait(20)


@pytest.fixture
def service(servers: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    """Return the servers, emptied, with the settings that lead to them and an empty folder to work in."""
    for name in os.environ:
        if name.startswith("STEMS_") or name in {"K_SINK", "PORT"}:
            monkeypatch.delenv(name)
    for name, value in servers.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    servers.redis.flushall()
    for bucket in (naming.QUEUE_BUCKET, naming.OUTPUT_BUCKET):
        for item in servers.s3.list_objects(bucket, recursive=True):
            servers.s3.remove_object(bucket, item.object_name or "")
    return servers


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, arguments, prog_name="stems")
    assert done.exit_code == code, (done.output, done.exception)
    return done


# ----- submit


def test_submit_puts_songs_with_what_is_asked_of_them(service: Service) -> None:
    big = random.Random(1).randbytes(11 << 20)  # more than one part
    Path("夜に駆ける.mp3").write_bytes(b"song")
    Path("big.bin").write_bytes(big)
    options = ["--model", "htdemucs", "--stems", "vocals,no_vocals", "--format", "flac", "--prefix", "/in/"]
    done = run("submit", *options, "夜に駆ける.mp3", "nowhere.mp3", "big.bin", code=1)
    assert done.stdout.splitlines() == [f"queue/{KEY}  4 B", "queue/in/big.bin  11.5 MB"]
    assert done.stderr == "Error: nowhere.mp3: there is no such file\n"
    found = service.s3.stat_object("queue", KEY)
    metadata = {name.lower(): value for name, value in dict(found.metadata or {}).items()}
    assert metadata["content-type"] == "audio/mpeg"
    assert {name: metadata[f"x-amz-meta-{name}"] for name in ("model", "stems", "format")} == {
        "model": "htdemucs",
        "stems": "vocals,no_vocals",
        "format": "flac",
    }
    response = service.s3.get_object("queue", "in/big.bin")
    assert response.read() == big
    response.close()
    response.release_conn()


def test_two_songs_of_one_name_do_not_overwrite_each_other(service: Service) -> None:
    Path("a").mkdir()
    for path in (Path("song.mp3"), Path("a/song.mp3")):
        path.write_bytes(b"song")
    assert "two of the files would be queue/song.mp3" in run("submit", "song.mp3", "a/song.mp3", code=2).stderr
    assert not list(service.s3.list_objects("queue"))


def test_submit_without_the_bucket(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("song.mp3").write_bytes(b"song")
    monkeypatch.setenv("STEMS_S3_SECRET_KEY", "wrong")
    assert (
        "Error: song.mp3: queue/song.mp3: MinIO answers SignatureDoesNotMatch"
        in run("submit", "song.mp3", code=1).stderr
    )


def worker(service: Service, outcomes: dict[str, Callable[[Storage, Upload], None]]) -> threading.Thread:
    """Do to each upload of these names what a worker would, as soon as it is there."""
    storage = Storage(service.settings)

    def work() -> None:
        left = dict(outcomes)
        while left:
            for upload, _ in storage.uploads():
                if upload.key in left:
                    left.pop(upload.key)(storage, upload)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_wait_tells_how_each_song_ended(service: Service) -> None:
    names = ("good.mp3", "bad.mp3", "gone.mp3")
    for name in names:
        Path(name).write_bytes(name.encode())

    def good(storage: Storage, upload: Upload) -> None:
        storage.tag(Upload("queue", upload.key, "0" * 32, 0, {}), "failed", error="of older bytes")
        time.sleep(1.2)
        storage.tag(upload, "separating", songhash="5" * 64)
        storage.tag(upload, "done", songhash="5" * 64)

    thread = worker(
        service,
        {
            "good.mp3": good,
            "bad.mp3": lambda storage, upload: storage.tag(upload, "failed", error="no song at all"),
            "gone.mp3": lambda storage, upload: service.s3.remove_object("queue", upload.key),
        },
    )
    done = run("submit", "--wait", *names, code=1)
    thread.join()
    assert "queue/good.mp3 -> 555555555555  done in " in done.stdout
    assert "queue/bad.mp3: failed: no song at all" in done.stderr
    assert "queue/gone.mp3: removed: queue/gone.mp3 is not there any more" in done.stderr


def test_wait_ends_well_when_all_is_done(service: Service) -> None:
    Path("song.mp3").write_bytes(b"song")
    thread = worker(service, {"song.mp3": lambda storage, upload: storage.tag(upload, "done", songhash="5" * 64)})
    run("submit", "--wait", "song.mp3")
    thread.join()


def test_ctrl_c_ends_cleanly(service: Service) -> None:
    Path("song.mp3").write_bytes(b"song")
    with program("submit", "--wait", "song.mp3", environ=service.environ) as running:
        assert running.stdout
        assert running.stdout.readline().startswith("queue/song.mp3")
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=10)
    assert (running.returncode, errors) == (130, "\n")


# ----- logs


def log(service: Service, *lines: str, length: int = 20) -> None:
    service.redis.pipeline().rpush(naming.LOG_TAIL, *lines).ltrim(naming.LOG_TAIL, -length, -1).execute()


def test_logs_shows_the_newest_lines(service: Service) -> None:
    log(service, *(f"12:00:0{i} relay    line {i}" for i in range(9)), "12:00:09 relay    ERROR odd\nTrace\033[2J")
    assert run("logs", "-n", "2").stdout == "12:00:08 relay    line 8\n12:00:09 relay    ERROR odd\nTrace�[2J\n"
    assert run("logs", "-n", "0").stdout == ""


def test_logs_follows_a_list_that_is_trimmed_and_emptied(service: Service) -> None:
    log(service, *(f"old {i}" for i in range(20)))
    with program("logs", "-n", "1", "-f", environ=service.environ) as running:
        assert running.stdout
        assert running.stdout.readline() == "old 19\n"
        seen = []
        for batch in range(3):  # the list keeps its length, and lines repeat
            log(service, f"batch {batch}", "same", "same")
            seen += [running.stdout.readline() for _ in range(3)]
        service.redis.flushall()
        log(service, "after the flood")
        seen.append(running.stdout.readline())
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=10)
    expected = [line for batch in range(3) for line in (f"batch {batch}\n", "same\n", "same\n")]
    assert seen == [*expected, "after the flood\n"]
    assert (running.returncode, rest, errors) == (130, "", "\n")


# ----- dead letters


def bury(service: Service, key: str, error: str, *, at_ms: int) -> str:
    """Make a dead letter as the relay does."""
    job = naming.job_id("queue", key, "e" * 32)
    record = {"eventName": "s3:ObjectCreated:Put", "s3": {"object": {"key": key}}}
    fields = {"bucket": "queue", "key": key, "etag": "e" * 32, "uploaded_ms": at_ms, "record": json.dumps(record)}
    service.redis.hset(naming.job_key(job), mapping={**fields, "state": "failed", "error": error, "updated_ms": at_ms})
    service.redis.hset(naming.ATTEMPTS, job, 3)
    service.redis.zadd(naming.DEAD, {job: at_ms})
    return job


@pytest.fixture
def letters(service: Service) -> list[str]:
    first = bury(service, KEY, "422: not a song", at_ms=1_700_000_000_000)
    second = bury(service, "other.mp3", "503: gave up", at_ms=1_700_000_001_000)
    payload = "no JSON"
    unreadable = "f" * 32
    service.redis.hset(naming.job_key(unreadable), mapping={"state": "failed", "payload": payload, "error": "odd"})
    service.redis.zadd(naming.DEAD, {unreadable: 1_700_000_002_000})
    return [first, second, unreadable]


def test_dead_list(service: Service, letters: list[str]) -> None:
    lines = run("dead", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "SONG", "TRIES", "WHEN"]
    assert lines[1].split()[0] == letters[2][:8]  # the newest first
    assert lines[3].split()[:3] == [letters[1][:8], "other.mp3", "3"]
    assert lines[6].strip() == "422: not a song"
    given = json.loads(run("dead", "list", "--json").stdout)
    assert [letter["id"] for letter in given] == letters[::-1]
    assert given[2]["error"] == "422: not a song"


def test_dead_show(service: Service, letters: list[str]) -> None:
    shown = run("dead", "show", letters[0][:6]).stdout
    assert letters[0] in shown
    assert "422: not a song" in shown
    assert '"eventName": "s3:ObjectCreated:Put"' in shown
    assert f'"key": "{KEY}"' in shown
    assert "no JSON" in run("dead", "show", "ffff").stdout
    assert run("dead", "show", "zz", code=1).stderr == "Error: 0 dead letters have an id that starts with 'zz'\n"


def test_dead_retry_puts_back_in_line(service: Service, letters: list[str]) -> None:
    run("dead", "retry", letters[0][:8], "nothing", code=1)
    assert service.redis.zcard(naming.DEAD) == 3  # a wrong id changes nothing
    assert "back in line  in/夜に駆ける.mp3" in run("dead", "retry", letters[0][:8]).stdout
    assert service.redis.zrange(naming.WAITING, 0, -1) == [letters[0]]
    assert service.redis.hget(naming.job_key(letters[0]), "state") == "waiting"
    assert service.redis.hget(naming.ATTEMPTS, letters[0]) is None
    run("dead", "retry", "--all")
    assert service.redis.zcard(naming.DEAD) == 0
    assert service.redis.lrange(naming.NOTIFICATIONS, 0, -1) == ["no JSON"]
    assert run("dead", "retry", "--all").stderr == "no dead letters\n"


def test_dead_drop_forgets(service: Service, letters: list[str]) -> None:
    run("dead", "drop", letters[1])
    assert service.redis.zrange(naming.DEAD, 0, -1) == [letters[0], letters[2]]
    run("dead", "drop", "--all")
    assert service.redis.zcard(naming.DEAD) == 0
    assert service.redis.zcard(naming.WAITING) == 0


# ----- the REST function


def separated(service: Service, songhash: str, name: str, *, created_ms: int = 1_700_000_000_000) -> None:
    """Put a track in the bucket and the index as the worker does."""
    stems = []
    for stem in ("drums", "vocals"):
        body = f"{songhash} {stem}".encode()
        put = naming.stem_object(songhash, stem, "flac")
        etag = service.s3.put_object("output", put, io.BytesIO(body), len(body)).etag or ""
        stems.append(Stem(stem, "flac", put, len(body), etag, 0.0))
    model = ModelInfo("htdemucs", "0" * 64, False, "exact")
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
