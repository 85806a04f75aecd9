"""The relay process between a real MinIO, a real Redis and a sink whose answers each test scripts."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.datatypes import PostPolicy

from stems import contract, jobs, naming
from stems.config import Settings
from stems.contract import Upload
from stems.storage import Storage
from stems_relay import inbox as inbox_module
from stems_relay import relay as relay_module
from stems_relay.inbox import Inbox, Taken
from tests.programs import CHECKOUT, need

USERS = ("separate", "tracks", "relay", "uploader")
SECRET = "a-secret-of-tests"
RELAY = "from stems.config import Settings; from stems_relay.relay import run; run(Settings.from_env())"
# A relay that sweeps young uploads too: no test waits until one is old.
SWEEPER = f"from stems_relay import sweep; sweep.GRACE_MS = -3_600_000; {RELAY}"
QUICK = {
    "STEMS_BACKOFF_S": "0.05",
    "STEMS_BACKOFF_MAX_S": "1",
    "STEMS_HEARTBEAT_S": "0.3",
    "STEMS_SWEEP_S": "600",  # tests that need a sweep say so
    "STEMS_GRACE_S": "0",
    "STEMS_MAX_IN_FLIGHT": "4",
    "STEMS_LOG_FORMAT": "text",
}
RECORD: dict[str, Any] = {
    "eventName": "s3:ObjectCreated:Put",
    "eventTime": "2026-11-22T05:00:00.000Z",
    "s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3", "eTag": "e", "sequencer": "18A0000000000000"}},
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Wait for a condition; what it needs may be away meanwhile."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, redis.RedisError, urllib3.exceptions.HTTPError):
            if condition():
                return
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def ended(process: subprocess.Popen[bytes], number: int, timeout_s: float = 20) -> None:
    process.send_signal(number)
    process.wait(timeout_s)


@dataclass(frozen=True)
class Delivery:
    """A request as the sink got it. `at`: monotonic seconds; `together`: how many were in work then."""

    upload: Upload
    headers: Mapping[str, str]
    body: bytes
    at: float
    together: int


@dataclass
class Reply:
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Sink:
    """A sink on a port of its own. It answers 200, or what `script` holds for the key; held keys wait."""

    def __init__(self) -> None:
        self.port = free_port()
        self.deliveries: list[Delivery] = []
        self.script: dict[str, list[Reply]] = {}
        self._held: dict[str, threading.Event] = {}
        self._together = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.open()

    def open(self) -> None:
        if self._server:
            return
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                reply = sink.take(dict(self.headers.items()), body)
                with contextlib.suppress(OSError):  # the relay was killed
                    self.send_response(reply.status)
                    for name, value in {"content-length": str(len(reply.body.encode())), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self.release()
        self._server.server_close()  # joins the threads of requests
        self._server = None

    def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        upload = contract.from_http(headers, body)
        with self._lock:
            self._together += 1
            self.deliveries.append(Delivery(upload, headers, body, time.monotonic(), self._together))
            held, script = self._held.get(upload.key), self.script.get(upload.key, [])
            reply = script.pop(0) if len(script) > 1 else script[0] if script else Reply()
        if held:
            held.wait(60)
        with self._lock:
            self._together -= 1
        return reply

    def hold(self, *keys: str) -> None:
        self._held |= {key: threading.Event() for key in keys}

    def release(self, *keys: str) -> None:
        for key in keys or tuple(self._held):
            self._held.pop(key).set()

    def of(self, key: str) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.upload.key == key]

    def keys(self) -> list[str]:
        return [delivery.upload.key for delivery in self.deliveries]


class Stack:
    """MinIO and Redis on free ports, with the users and buckets of minio-config, and any number of relays."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sink = folder, Sink()
        self.relays: list[subprocess.Popen[bytes]] = []
        self.ports = {"redis": free_port(), "minio": free_port()}
        self.environ = {
            "STEMS_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['minio']}",
            "STEMS_S3_ACCESS_KEY": "relay",
            "STEMS_S3_SECRET_KEY": SECRET,
            "STEMS_REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "K_SINK": f"http://127.0.0.1:{self.sink.port}/",
            "MINIO_ROOT_USER": "root",
            "MINIO_ROOT_PASSWORD": SECRET,
            **{f"STEMS_{user.upper()}_SECRET_KEY": SECRET for user in USERS},
        }
        self.redis: Any = jobs.connect(Settings.from_env(self.environ))
        self.jobs = jobs.Jobs(self.redis)
        self.http = urllib3.PoolManager(retries=False, timeout=20)
        self.s3, self.root = (
            Minio(f"127.0.0.1:{self.ports['minio']}", user, SECRET, secure=False, http_client=self.http)
            for user in ("uploader", "root")
        )
        self.redis_server = self.start_redis()
        self.minio_server = self._start_minio()

    def start_redis(self) -> subprocess.Popen[bytes]:
        command = [need("redis-server"), "--port", str(self.ports["redis"]), "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--bind", "127.0.0.1"]
        self.redis_server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self.redis.ping)
        return self.redis_server

    def _start_minio(self) -> subprocess.Popen[bytes]:
        address = f"127.0.0.1:{self.ports['redis']}"
        notify = {"ENABLE": "on", "ADDRESS": address, "KEY": naming.NOTIFICATIONS, "FORMAT": "access"}
        environ = {f"MINIO_NOTIFY_REDIS_{k}_{target}": v for target in ("FAST", "DURABLE") for k, v in notify.items()}
        environ["MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE"] = str(self.folder / "events")
        command = [need("minio"), "server", str(self.folder / "minio"), "--quiet"]
        command += ["--address", f"127.0.0.1:{self.ports['minio']}", "--console-address", f"127.0.0.1:{free_port()}"]
        environ |= {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        return subprocess.Popen(command, env=os.environ | self.environ | environ, stdout=subprocess.DEVNULL)

    def configure(self, targets: str) -> None:
        """Apply minio-config. With one target, no second announcement comes 3 s later, in the midst of a test."""
        command = [sys.executable, str(CHECKOUT / "minio-config" / "apply.py")]
        environ = os.environ | self.environ | {"STEMS_NOTIFY_TARGETS": targets}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def relay(self, program: str = RELAY, **settings: str) -> subprocess.Popen[bytes]:
        environ = os.environ | self.environ | QUICK | settings
        with (self.folder / "relay.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", program], env=environ, stderr=log)
        self.relays.append(process)
        mark = f"-{process.pid}-"  # the relay's name has its process id in it
        until(
            lambda: process.poll() is not None or any(mark in name for name in self.redis.zrange(naming.RELAYS, 0, -1))
        )
        assert process.poll() is None, "the relay does not start"
        return process

    def reset(self) -> None:
        """End what a test left running and forget what it did."""
        for relay in self.relays:
            if relay.poll() is None:
                relay.send_signal(signal.SIGCONT)
                relay.kill()
                relay.wait()
        self.relays.clear()
        self.sink.open()
        self.sink.release()
        self.sink.script.clear()
        for item in self.root.list_objects("queue", recursive=True):
            self.root.remove_object("queue", item.object_name or "")
        until(lambda: self.sink._together == 0)
        self.sink.deliveries.clear()
        self.redis.flushall()

    def stop(self) -> None:
        self.reset()
        self.sink.close()
        for process in (self.redis_server, self.minio_server):
            process.kill()
            process.wait()
        self.redis.close()
        self.http.clear()

    def put(self, key: str, data: bytes = b"", stems: str = "") -> str:
        body, metadata = data or key.encode(), {"x-amz-meta-stems": stems} if stems else {}
        return self.s3.put_object("queue", key, BytesIO(body), len(body), metadata=dict(metadata)).etag or ""

    def announce(self, *keys: str) -> list[str]:
        """Put uploads one after the other, while no relay runs, and return the ids of their jobs."""
        jobs = []
        for count, key in enumerate(keys, start=1):
            jobs.append(naming.job_id("queue", key, self.put(key)))
            until(lambda count=count: self.redis.llen(naming.NOTIFICATIONS) == count)  # type: ignore[misc]
        return jobs

    def tags(self, key: str) -> Mapping[str, str]:
        return dict(self.root.get_object_tags("queue", key) or {})

    def job(self, key: str, etag: str) -> Mapping[str, str]:
        return dict(self.redis.hgetall(naming.job_key(naming.job_id("queue", key, etag))))

    def idle(self) -> bool:
        """Tell whether nothing is on its way any more; looks in the order in which songs go: none slips past."""
        if self.redis.llen(naming.NOTIFICATIONS):
            return False
        if any(self.redis.llen(naming.processing_key(relay)) for relay in self.redis.zrange(naming.RELAYS, 0, -1)):
            return False
        view = self.jobs.view()
        return not (view.waiting or view.running)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("relay"))
    try:
        stack.configure("FAST")
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(services: Stack) -> Iterator[Stack]:
    try:
        yield services
    finally:
        services.reset()


@pytest.fixture
def sink(stack: Stack) -> Sink:
    return stack.sink


# ---- what is delivered, and how


def test_each_of_the_four_kinds_is_delivered_and_other_events_are_not(stack: Stack, sink: Sink) -> None:
    stack.relay()
    etags = {"put.mp3": stack.put("put.mp3")}
    copied = stack.root.copy_object("queue", "copy.mp3", CopySource("queue", "put.mp3"))
    etags["copy.mp3"] = copied.etag or ""
    parts = stack.root.put_object("queue", "parts.mp3", BytesIO(bytes(6 << 20)), -1, part_size=5 << 20)
    etags["parts.mp3"] = parts.etag or ""
    policy = PostPolicy("queue", datetime.now(UTC) + timedelta(hours=1))
    policy.add_equals_condition("key", "form.mp3")
    form: dict[str, Any] = {
        **stack.s3.presigned_post_policy(policy),
        "key": "form.mp3",
        "file": ("form.mp3", b"form.mp3"),
    }
    posted = stack.http.request("POST", f"{stack.environ['STEMS_S3_ENDPOINT']}/queue", fields=form)
    assert posted.status == 204, posted.data
    etags["form.mp3"] = posted.headers["etag"].strip('"')
    until(lambda: len(sink.deliveries) == 4 and stack.idle())

    for kind in ("PutTagging", "PutRetention", "PutLegalHold"):
        s3 = {"bucket": {"name": "queue"}, "object": {"key": "tagged.mp3", "eTag": "of-tagged"}}
        payload = json.dumps([{"Event": [RECORD | {"eventName": f"s3:ObjectCreated:{kind}", "s3": s3}]}])
        stack.redis.rpush(naming.NOTIFICATIONS, payload)
    stack.put("last.mp3")
    until(lambda: sink.of("last.mp3") and stack.idle())
    assert {d.upload.key: d.upload.etag for d in sink.deliveries[:4]} == etags
    assert len(sink.deliveries) == 5
    types = {d.upload.key: {k.lower(): v for k, v in d.headers.items()}["ce-type"] for d in sink.deliveries[:4]}
    kinds = {"put.mp3": "Put", "copy.mp3": "Copy", "parts.mp3": "CompleteMultipartUpload", "form.mp3": "Post"}
    assert types == {key: f"com.amazonaws.s3.ObjectCreated:{kind}" for key, kind in kinds.items()}
    assert stack.jobs.view().failed == 0


def test_both_targets_announce_and_the_song_is_delivered_once(stack: Stack, sink: Sink) -> None:
    stack.configure("FAST,DURABLE")
    try:
        for key in ("a.mp3", "b.mp3"):
            stack.put(key)
        until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 4)
    finally:
        stack.configure("FAST")
    stack.relay()
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    # The same once more, when the songs are done.
    for delivery in tuple(sink.deliveries):
        stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [json.loads(delivery.body)]}]))
    stack.put("c.mp3")
    until(lambda: sink.of("c.mp3") and stack.idle())
    assert sorted(sink.keys()) == ["a.mp3", "b.mp3", "c.mp3"]


def test_headers_and_body_are_those_of_the_contract(stack: Stack, sink: Sink) -> None:
    key = "Пісня + 100 % ä/ö&=?#.mp3"
    etag = stack.put(key, stems="vocals")
    until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 1)
    (record,) = json.loads(stack.redis.lindex(naming.NOTIFICATIONS, 0))[0]["Event"]
    stack.relay()
    until(lambda: sink.deliveries)
    (delivery,) = sink.deliveries
    assert json.loads(delivery.body) == record, "the S3 record, unchanged"
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    ours = {name: value for name, value in headers.items() if name.startswith("ce-")}
    answer, subject = record["responseElements"], ours.pop("ce-subject")
    assert datetime.fromisoformat(ours.pop("ce-time")).timestamp() * 1000 == delivery.upload.uploaded_ms
    assert ours == {
        "ce-specversion": "1.0",
        "ce-id": f"{answer['x-amz-request-id']}.{answer['x-amz-id-2']}",
        "ce-source": f"minio:s3.{record['awsRegion']}.queue",
        "ce-type": "com.amazonaws.s3.ObjectCreated:Put",
    }
    assert headers["content-type"] == "application/json"
    assert subject.isascii()
    assert (delivery.upload.key, delivery.upload.etag) == (key, etag)


def test_no_more_than_allowed_are_in_flight(stack: Stack, sink: Sink) -> None:
    keys = [f"{number}.mp3" for number in range(9)]
    sink.hold(*keys)
    stack.announce(*keys)
    stack.relay(STEMS_MAX_IN_FLIGHT="3")
    until(lambda: len(sink.deliveries) == 3)
    until(lambda: stack.redis.zcard(naming.WAITING) == 6)
    assert sorted(sink.keys()) == keys[:3], "the oldest first"
    for done, key in enumerate(keys, start=1):
        sink.release(key)
        until(lambda done=done: len(sink.deliveries) == min(9, done + 3))  # type: ignore[misc]
    until(stack.idle)
    assert max(delivery.together for delivery in sink.deliveries) == 3
    assert sorted(sink.keys()) == keys


# ---- what the sink answers


def test_a_song_that_fails_is_tried_again_ever_later_and_then_kept_as_a_dead_letter(stack: Stack, sink: Sink) -> None:
    sink.script["bad.mp3"] = [Reply(500, json.dumps({"detail": f"no {word}"})) for word in ("one", "two", "three", "4")]
    etag = stack.put("bad.mp3")
    stack.relay(STEMS_MAX_ATTEMPTS="4", STEMS_BACKOFF_S="0.2", STEMS_MAX_IN_FLIGHT="1")
    until(lambda: sink.deliveries)
    stack.put("good.mp3")
    until(lambda: stack.jobs.view().failed == 1)
    times = [delivery.at for delivery in sink.of("bad.mp3")]
    delays = [later - before for before, later in pairwise(times)]
    assert len(times) == 4
    assert all(delay > least for delay, least in zip(delays, (0.1, 0.2, 0.4), strict=True)), delays
    assert sink.of("good.mp3")[0].at < times[-1], "others need not wait for it"
    (dead,) = stack.jobs.view().failed_jobs
    assert (dead.key, dead.state, dead.attempts) == ("bad.mp3", "failed", 4)
    assert dead.error == "gave up after 4 attempts; the last one: no 4"
    until(lambda: stack.tags("bad.mp3").get("state") == "failed")
    assert stack.tags("bad.mp3") == {"state": "failed", "etag": etag, "error": dead.error.replace(";", " ")}
    assert stack.redis.hgetall(naming.ATTEMPTS) == {}


def test_a_song_that_never_succeeds_is_a_dead_letter_at_once(stack: Stack, sink: Sink) -> None:
    sink.script["no-song.txt"] = [Reply(422, json.dumps({"detail": "not audio"}))]
    sink.script["odd.mp3"] = [Reply(308, headers={"location": "/there"})]
    etag = stack.put("no-song.txt")
    stack.put("odd.mp3")
    stack.put("song.mp3")
    stack.relay()
    until(lambda: stack.jobs.view().failed == 2 and stack.idle())
    until(lambda: stack.tags("no-song.txt").get("state") == "failed")
    assert sorted(sink.keys()) == ["no-song.txt", "odd.mp3", "song.mp3"]
    assert stack.tags("no-song.txt") == {"state": "failed", "etag": etag, "error": "not audio"}
    assert stack.job("no-song.txt", etag)["error"] == "not audio"


def test_busy_is_waited_for_and_not_counted(stack: Stack, sink: Sink) -> None:
    busy = Reply(409, json.dumps({"detail": "in work"}), {"retry-after": "1"})
    sink.script["a.mp3"] = [busy, busy, Reply(200)]
    etag = stack.put("a.mp3")
    stack.put("b.mp3")
    stack.relay(STEMS_MAX_ATTEMPTS="1", STEMS_MAX_IN_FLIGHT="1")
    until(lambda: len(sink.of("a.mp3")) == 3 and stack.idle())
    times = [delivery.at for delivery in sink.of("a.mp3")]
    assert all(1 <= later - before < 4 for before, later in pairwise(times)), times
    assert sink.of("b.mp3")[0].at < times[1], "others need not wait for it"
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.job("a.mp3", etag)["attempts"] == "1"


@pytest.mark.parametrize(
    "away",
    [Reply(503, "MinIO is away", {"retry-after": "1"}), Reply(429, headers={"retry-after": "1"}), Reply(404), None],
    ids=["503", "429", "404", "refused"],
)
def test_while_the_sink_is_away_the_line_stands_and_then_goes_on(stack: Stack, sink: Sink, away: Reply | None) -> None:
    keys = ["a.mp3", "b.mp3", "c.mp3"]
    first, *_ = stack.announce(*keys)
    if away:
        sink.script["a.mp3"] = [away, away, away, Reply(200)]
    else:
        sink.close()
    stack.relay(STEMS_MAX_ATTEMPTS="1", STEMS_MAX_IN_FLIGHT="1")
    if not away:
        until(lambda: int(stack.redis.hget(naming.job_key(first), "tries") or 0) >= 3)
        sink.open()
    back = time.monotonic()
    until(lambda: len(sink.deliveries) == (6 if away else 3) and stack.idle())
    assert time.monotonic() - back < 8
    assert sink.keys() == (["a.mp3"] * 3 if away else []) + keys, "in their order"
    assert stack.jobs.view().failed == 0
    assert stack.redis.hgetall(naming.ATTEMPTS) == {}


def test_a_sink_that_is_unable_to_take_one_song_alone_does_not_hold_up_the_others(stack: Stack, sink: Sink) -> None:
    sink.script["huge.mp3"] = [Reply(503, json.dumps({"detail": "disk full"}), {"retry-after": "0"})]
    stack.announce("huge.mp3", "0.mp3", "1.mp3", "2.mp3")
    stack.relay(STEMS_MAX_ATTEMPTS="2", STEMS_MAX_IN_FLIGHT="1", STEMS_BACKOFF_MAX_S="0.1")
    until(lambda: stack.jobs.view().failed == 1 and stack.idle())
    assert sorted(set(sink.keys())) == ["0.mp3", "1.mp3", "2.mp3", "huge.mp3"]
    assert sink.keys()[:10] == ["huge.mp3"] * 10, "at first it keeps its place: the sink may be away"
    assert stack.jobs.view().failed_jobs[0].error.endswith("disk full")


# ---- what dies meanwhile


def test_a_relay_killed_in_mid_delivery_leaves_the_song_to_the_next(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3")
    relay = stack.relay()
    until(lambda: sink.deliveries)
    assert stack.jobs.view().running == 1
    ended(relay, signal.SIGKILL)
    sink.release()
    assert stack.job("a.mp3", etag)["state"] == "waiting", "nobody has entered an answer"
    stack.relay()
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.job("a.mp3", etag)["attempts"] == "2", "it may have been the song that killed the relay"


def test_a_song_that_kills_every_relay_becomes_a_dead_letter(stack: Stack, sink: Sink) -> None:
    sink.hold("killer.mp3")
    etag = stack.put("killer.mp3")
    stack.redis.hset(naming.ATTEMPTS, naming.job_id("queue", "killer.mp3", etag), 1)
    for _ in range(2):
        relay = stack.relay(STEMS_MAX_ATTEMPTS="2")
        seen = len(sink.deliveries)
        until(lambda seen=seen: len(sink.deliveries) > seen)  # type: ignore[misc]
        ended(relay, signal.SIGKILL)
    stack.relay(STEMS_MAX_ATTEMPTS="2")
    until(lambda: stack.jobs.view().failed == 1)
    assert len(sink.deliveries) == 2
    assert "2 deliveries" in stack.job("killer.mp3", etag)["error"]
    until(lambda: stack.tags("killer.mp3").get("state") == "failed")


def test_of_two_relays_one_is_killed_and_the_other_takes_over(stack: Stack, sink: Sink) -> None:
    keys = [f"{number}.mp3" for number in range(6)]
    sink.hold(*keys)
    relays = [stack.relay(STEMS_MAX_IN_FLIGHT="2"), stack.relay(STEMS_MAX_IN_FLIGHT="2")]
    for key in keys:
        stack.put(key)
    until(lambda: len(sink.deliveries) == 4)
    ended(relays[0], signal.SIGKILL)
    until(lambda: stack.redis.zcard(naming.RELAYS) == 1)
    sink.release()
    until(lambda: len(set(sink.keys())) == 6 and stack.idle())
    assert len(sink.deliveries) == 8, "the two that the dead one had were delivered twice, no other"


def test_a_relay_that_was_paused_does_not_enter_an_old_answer(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    sink.script["a.mp3"] = [Reply(422, "of the first delivery"), Reply(200)]
    etag = stack.put("a.mp3")
    paused = stack.relay()
    until(lambda: sink.deliveries)
    paused.send_signal(signal.SIGSTOP)
    stack.relay()
    until(lambda: len(sink.deliveries) == 2)
    paused.send_signal(signal.SIGCONT)
    until(lambda: stack.redis.zcard(naming.RELAYS) == 2)
    sink.release()
    until(stack.idle)
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.jobs.view().failed == 0
    stack.put("b.mp3")
    until(lambda: sink.of("b.mp3") and stack.idle())


def test_a_relay_that_is_told_to_stop_hands_back_at_once(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3", "b.mp3")
    stack.announce("a.mp3", "b.mp3")
    relay = stack.relay()
    until(lambda: len(sink.deliveries) == 2)
    ended(relay, signal.SIGTERM, 5)
    assert relay.returncode == 0
    view = stack.jobs.view()
    assert [job.key for job in view.waiting_jobs] == ["a.mp3", "b.mp3"]
    assert (view.running, stack.redis.hgetall(naming.ATTEMPTS), stack.redis.zcard(naming.RELAYS)) == (0, {}, 0)


def test_a_relay_that_is_told_to_stop_lets_a_song_end_and_stays_alive_meanwhile(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3")
    relay = stack.relay(STEMS_GRACE_S="30")
    until(lambda: sink.deliveries)
    relay.send_signal(signal.SIGTERM)
    (name,) = stack.redis.zrange(naming.RELAYS, 0, -1)
    other = stack.relay()
    (_, before) = stack.redis.zrange(naming.RELAYS, 0, -1, withscores=True)[0]
    until(lambda: stack.redis.zscore(naming.RELAYS, name) > before + 1500)  # five heartbeats: more than the patience
    sink.release()
    assert relay.wait(10) == 0
    assert other.poll() is None
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert len(sink.deliveries) == 1


def test_a_loop_ends_though_a_library_swallows_the_first_request() -> None:
    async def run() -> None:
        async def stubborn() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await asyncio.wait_for(relay_module._cancel([task]), 10)
        assert task.cancelled()

    asyncio.run(run())


def test_redis_is_restarted_in_mid_delivery(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3")
    stack.put("b.mp3")
    stack.relay()
    until(lambda: sink.of("a.mp3") and stack.jobs.view().running == 1)
    ended(stack.redis_server, signal.SIGKILL)
    sink.release()
    stack.start_redis()
    until(lambda: stack.job("a.mp3", etag).get("state") == "done" and stack.idle())
    assert len(sink.of("a.mp3")) == 1, "its answer was entered when Redis was back"
    stack.put("c.mp3")
    until(lambda: sink.of("c.mp3"))


def test_redis_loses_everything_in_mid_delivery_and_the_sweep_finds_the_songs(stack: Stack, sink: Sink) -> None:
    keys = ["a.mp3", "b.mp3", "c.mp3"]
    sink.hold("a.mp3")
    sink.script["a.mp3"] = [Reply(500), Reply(200)]
    etags = {key: stack.put(key) for key in keys}
    stack.relay(SWEEPER, STEMS_MAX_IN_FLIGHT="1", STEMS_SWEEP_S="1")
    until(lambda: sink.deliveries)
    stack.redis.flushall()
    sink.release()
    until(lambda: {"b.mp3", "c.mp3"} <= set(sink.keys()) and len(sink.of("a.mp3")) >= 2)
    until(lambda: all(stack.job(key, etag).get("state") == "done" for key, etag in etags.items()) and stack.idle())
    assert stack.jobs.view().failed == 0


def test_a_lost_notification_is_made_good_by_the_sweep_at_the_start(stack: Stack, sink: Sink) -> None:
    etag = stack.put("a.mp3")
    stack.put("b.mp3")
    tags = {"state": "done", "etag": stack.put("done.mp3")}
    until(lambda: stack.redis.llen(naming.NOTIFICATIONS) == 3)
    stack.redis.delete(naming.NOTIFICATIONS)
    stack.redis.set(naming.SWEEP_LOCK, "of a relay that swept just now and died", ex=600)
    upload = Upload.from_listing("queue", "done.mp3", tags["etag"], 8, datetime.now(UTC))
    Storage(Settings.from_env(stack.environ)).tag(upload, "done")
    stack.relay(SWEEPER, STEMS_MAX_IN_FLIGHT="1")
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert sink.keys() == ["a.mp3", "b.mp3"], "in the order of their uploads, and not what is done"


def test_the_sweep_tags_a_dead_letter_that_could_not_be_tagged(stack: Stack, sink: Sink) -> None:
    etag = stack.put("a.mp3")
    sink.script["a.mp3"] = [Reply(400, "no")]
    relay = stack.relay()
    until(lambda: stack.tags("a.mp3").get("state") == "failed")
    ended(relay, signal.SIGTERM)
    stack.root.delete_object_tags("queue", "a.mp3")
    stack.relay(SWEEPER)
    until(lambda: stack.tags("a.mp3").get("state") == "failed")
    assert stack.tags("a.mp3") == {"state": "failed", "etag": etag, "error": "400: no"}
    assert len(sink.deliveries) == 1


# ---- what is strange


def test_a_payload_that_cannot_be_read_is_kept_and_the_songs_behind_it_flow(stack: Stack, sink: Sink) -> None:
    def record(**s3: Any) -> Any:
        return [{"Event": [RECORD | {"s3": RECORD["s3"] | s3}]}]

    strange: list[Any] = [b"", b"{", b"\xff\xfe", b"[" * 50_000, b"9" * 5000, b"[" + b" " * 1_000_000 + b"]"]
    strange += [None, 5, "text", [], {}, [None], [5], ["Event"], {"Event": 5}, {"Records": {"a": 1}}]
    strange += [{"Records": [None]}, [{"Event": []}], record(bucket=None), record(bucket=5), record(bucket=[])]
    objects: list[Any] = [None, 5, [], {"key": 5, "eTag": "e"}, {"key": "a", "eTag": 5}]
    strange += [record(object=each) for each in objects]
    strange += [record(object={"key": "\ud800", "eTag": "e"}), record(object={"key": "", "eTag": "e"})]
    strange += [record(object={"key": "a", "eTag": "e", "sequencer": sequencer}) for sequencer in ("no hex", 5, [1])]
    strange += [record(object={"key": "a", "eTag": "e", "sequencer": "F" * 5000})]
    good = RECORD | {"s3": {"bucket": {"name": "queue"}, "object": {"key": "good.mp3", "eTag": "e"}}}
    strange.append([{"Event": [RECORD | {"s3": None}, good]}])
    for payload in strange:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        stack.redis.rpush(naming.NOTIFICATIONS, raw)
    no_event = RECORD | {"awsRegion": 5, "s3": RECORD["s3"] | {"object": {"key": "x", "eTag": "e"}}}
    stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [no_event]}]))
    stack.redis.rpush(naming.NOTIFICATIONS, json.dumps(RECORD | {"Records": [good | {"eventName": 5}]}))
    stack.put("song.mp3")
    stack.relay()
    until(lambda: sink.of("song.mp3") and stack.redis.llen(naming.NOTIFICATIONS) == 0 and stack.idle())
    assert sorted(sink.keys()) == ["good.mp3", "song.mp3"]
    dead = stack.jobs.view().failed_jobs
    assert len(dead) == len(strange) + 1
    for job in dead:
        letter, data = stack.jobs.dead_letter(job.id)
        assert letter.error
        assert "payload" in data or letter.key == "x"
    assert {data["payload"] for data in (stack.jobs.dead_letter(job.id)[1] for job in dead) if "payload" in data} >= {
        "{",
        "",
        "\\xff\\xfe",
        "null",
    }


def test_an_upload_repeated_while_it_is_delivered_is_delivered_once_more(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    etag = stack.put("a.mp3", b"song")
    stack.relay()
    until(lambda: sink.deliveries)
    assert stack.put("a.mp3", b"song", stems="vocals") == etag
    until(lambda: stack.job("a.mp3", etag).get("again") == "1")
    sink.release()
    until(lambda: len(sink.deliveries) == 2 and stack.idle())
    assert "userMetadata" in json.loads(sink.deliveries[1].body)["s3"]["object"]
    assert sink.deliveries[1].body != sink.deliveries[0].body, "with the options of the second"
    stack.put("b.mp3")
    until(lambda: sink.of("b.mp3") and stack.idle())
    assert len(sink.of("a.mp3")) == 2
    assert stack.job("a.mp3", etag)["state"] == "done"


def test_an_upload_overwritten_while_it_is_delivered_is_another_song(stack: Stack, sink: Sink) -> None:
    sink.hold("a.mp3")
    gone = Reply(200, "{}", {"ce-type": contract.TYPE_GONE, "ce-id": "1", "ce-source": "s", "ce-specversion": "1.0"})
    sink.script["a.mp3"] = [gone, Reply(200)]
    first = stack.put("a.mp3", b"one")
    stack.relay()
    until(lambda: sink.deliveries)
    second = stack.put("a.mp3", b"two")
    until(lambda: len(sink.deliveries) == 2)
    sink.release()
    until(stack.idle)
    assert [delivery.upload.etag for delivery in sink.deliveries] == [first, second]
    assert (stack.job("a.mp3", first)["state"], stack.job("a.mp3", second)["state"]) == ("gone", "done")


def test_a_dead_letter_that_is_retried_is_delivered_again(stack: Stack, sink: Sink) -> None:
    sink.script["a.mp3"] = [Reply(500), Reply(500), Reply(500), Reply(200)]
    etag = stack.put("a.mp3")
    stack.redis.rpush(naming.NOTIFICATIONS, "{")
    stack.relay(STEMS_MAX_ATTEMPTS="2")
    until(lambda: stack.jobs.view().failed == 2)
    for job in stack.jobs.view().failed_jobs:
        assert stack.jobs.retry(job.id)
    until(lambda: len(sink.deliveries) == 4 and stack.idle())
    until(lambda: stack.jobs.view().failed == 1)  # what could not be read is as it was
    assert stack.job("a.mp3", etag)["state"] == "done"
    assert stack.job("a.mp3", etag)["attempts"] == "2", "it began to count anew"


def test_a_song_tried_thousands_of_times_can_still_end(stack: Stack, sink: Sink) -> None:
    etag = stack.put("a.mp3")
    job = naming.job_id("queue", "a.mp3", etag)
    sink.close()
    stack.relay()
    until(lambda: stack.redis.hget(naming.job_key(job), "tries"))
    stack.redis.hset(naming.job_key(job), "tries", 5000)  # hours of an absent sink
    until(lambda: int(stack.redis.hget(naming.job_key(job), "tries")) > 5000)
    sink.open()
    until(lambda: stack.job("a.mp3", etag).get("state") == "done" and stack.idle())


# ---- the line itself, command by command


def in_line(stack: Stack, act: Callable[[Inbox, Inbox], Awaitable[None]]) -> None:
    """Act as two relays at once."""

    async def run() -> None:
        relays = [Inbox(stack.environ["STEMS_REDIS_URL"], name) for name in ("one", "two")]
        try:
            await act(*relays)
        finally:
            for relay in relays:
                await relay.close()

    asyncio.run(run())


def upload(key: str = "a.mp3", uploaded_ms: int = 1_790_000_000_000) -> Upload:
    return Upload.from_listing("queue", key, "e", 1, datetime.fromtimestamp(uploaded_ms / 1000, UTC))


async def taken(relay: Inbox) -> Taken:
    found = await relay.take()
    assert isinstance(found, Taken)
    return found


def test_every_command_may_be_sent_twice(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        assert [await one.claim(upload()) for _ in range(2)] == ["new", "duplicate"]
        job = await taken(one)
        assert [await one.claim(upload(uploaded_ms=1_790_000_000_001)) for _ in range(2)] == ["again", "duplicate"]
        assert [await one.settle(job, "done") for _ in range(2)] == ["waiting", "waiting"]
        job = await taken(one)
        assert [await one.settle(job, "failed", error="no") for _ in range(2)] == ["failed", "failed"]
        assert await one.claim(upload()) == "failed"
        assert await one.error(job.upload.job) == "no"
        stack.redis.rpush(naming.NOTIFICATIONS, "{", "{")
        assert (await one.read()).unreadable == 2
        await two.sign_off()
        await two.sign_off()

    in_line(stack, act)
    assert stack.redis.zcard(naming.DEAD) == 2


def test_an_answer_is_entered_for_its_own_delivery_only(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        old = await taken(one)
        assert await two.heartbeat(-1) == 1  # everybody is silent
        assert await one.settle(old, "failed") == "stale"
        new = await taken(one)
        assert await one.settle(old, "failed") == "stale", "though the same relay has it again"
        assert await one.settle(new, "done") == "done"
        stack.redis.flushall()
        assert await one.settle(new, "waiting") == "stale"
        assert stack.redis.keys() == [], "and no fragment of a job comes into being"

    in_line(stack, act)


def test_a_relay_holds_nothing_unknown_to_the_others(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await two.claim(upload())
        assert await taken(one)  # has sent no heartbeat yet
        assert stack.redis.zrange(naming.RELAYS, 0, -1) == ["one"]
        stack.redis.delete(naming.RELAYS)
        assert await two.claim(upload()) == "new", "held by a relay that nobody knows is held by nobody"
        assert isinstance(await two.take(), Taken)
        stack.redis.flushall()
        stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [RECORD]}]))
        await one._fetch(keys=[naming.NOTIFICATIONS, one._processing, naming.RELAYS], args=["one", 100])
        assert await two.heartbeat(-1) == 1
        assert (await two.read()).new == 1

    in_line(stack, act)


def test_again_ends_with_the_next_delivery(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await taken(one)
        assert await one.claim(upload(uploaded_ms=1_790_000_000_001)) == "again"
        assert await two.heartbeat(-1) == 1
        assert await two.settle(await taken(two), "done") == "done", "this delivery came after the upload"

    in_line(stack, act)


def test_attempts_given_back_never_fall_below_none(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        job = await taken(one)
        stack.redis.delete(naming.ATTEMPTS)
        await one.settle(job, "waiting", refund=True)
        job = await taken(one)
        assert (job.attempts, job.tries) == (1, 2)
        await one.put_back(job.upload.job)
        await taken(one)
        await one.sign_off()
        assert stack.redis.hgetall(naming.ATTEMPTS) == {}

    in_line(stack, act)


def test_the_line_is_ordered_by_the_time_of_the_uploads(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        future_ms = jobs.now_ms() + 60_000
        for key, uploaded_ms in {"c": future_ms, "b": 1_790_000_000_001, "a": 1_790_000_000_000}.items():
            await one.claim(upload(key, uploaded_ms))
        assert [(await taken(one)).upload.key for _ in range(3)] == ["a", "b", "c"], "MinIO's clock may be ahead"

    in_line(stack, act)


def test_the_clock_may_be_set_back(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        day_ms = 24 * 3600 * 1000
        await one.claim(upload())
        stack.redis.zincrby(naming.WAITING, day_ms, upload().job)
        await taken(one)
        stack.redis.zadd(naming.RELAYS, {"one": jobs.now_ms() + day_ms})
        assert await two.heartbeat(0.05) == 0, "it may live"
        deadline = time.monotonic() + 5
        while await two.heartbeat(0.05) == 0:  # but is asked to say so
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert isinstance(await two.take(), Taken)

    in_line(stack, act)


def test_nobody_asks_to_wait_for_ever(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload())
        await one.settle(await taken(one), "waiting", delay_s=float("inf"))
        due_s = await one.take()
        assert isinstance(due_s, float)
        assert 3590 < due_s <= inbox_module.DELAY_LIMIT_S

    in_line(stack, act)


def test_keys_that_hold_something_else_or_nothing_stop_nobody(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload("damaged"))
        stack.redis.hset(naming.job_key(upload("damaged").job), "record", "{")
        stack.redis.set(naming.job_key(upload("text").job), "text")
        assert await one.claim(upload("text")) == "new"
        stack.redis.hset(naming.job_key(upload("odd").job), mapping={"uploaded_ms": "odd", "tries": "odd"})
        assert await one.claim(upload("odd")) == "new"
        for key in ("lost", "list"):
            await one.claim(upload(key))
            stack.redis.delete(naming.job_key(upload(key).job))
        stack.redis.rpush(naming.job_key(upload("list").job), "no hash")
        found = [await one.take() for _ in range(4)]
        assert {each.upload.key for each in found if isinstance(each, Taken)} == {"text", "odd"}
        assert found[-1] is None
        (dead,) = stack.jobs.view().failed_jobs
        assert dead.key == "damaged"
        for job in stack.redis.smembers("stems:delivering:one"):
            stack.redis.delete(naming.job_key(job))
        assert await two.heartbeat(-1) == 0
        assert stack.redis.zcard(naming.WAITING) == 0
        assert sorted(stack.redis.keys("stems:job:*")) == sorted(
            naming.job_key(job) for job in (upload("list").job, dead.id)
        ), "no fragment of a job comes into being"

    in_line(stack, act)


def test_the_line_drains_while_redis_is_full(stack: Stack) -> None:
    async def act(one: Inbox, two: Inbox) -> None:
        await one.claim(upload("a"))
        stack.redis.rpush(naming.NOTIFICATIONS, json.dumps([{"Event": [RECORD]}]), "{")
        stack.redis.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            stack.redis.set("any", "thing")
        read = await one.read()
        assert (read.new, read.unreadable) == (1, 1)
        for state in ("waiting", "failed", "done"):
            assert await one.settle(await taken(one), state) == state
        await taken(one) if stack.redis.zcard(naming.WAITING) else None
        await one.heartbeat(60)
        await two.heartbeat(-1)

    try:
        in_line(stack, act)
    finally:
        stack.redis.config_set("maxmemory", 0)
