"""Secrets stand nowhere but where they belong: not in a log, an answer, a record or a repr, also at DEBUG."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from stems import naming
from stems.config import Settings
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.conftest import QUICK
from tests.pipeline import Pipeline, song, wait_for
from tests.programs import need

PASSWORD = "a-password-within-an-address"
CALLBACK_TOKEN = "a-token-within-an-address"


@pytest.fixture(scope="module")
def talkative(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    need("stems")
    settings = QUICK | {"STEMS_LOG_LEVEL": "DEBUG"}
    stack = Stack(tmp_path_factory.mktemp("talkative"), programs, settings)
    settings["K_SINK"] = f"http://relay:{PASSWORD}@127.0.0.1:{stack.ports['separate']}/"
    stack.start()
    pipeline = Pipeline(stack)
    yield pipeline
    pipeline.close()
    stack.stop()


def _answers(pipeline: Pipeline) -> Iterator[bytes]:
    """Yield what the functions say, most of it complaints."""
    stack, http = pipeline.stack, urllib3.PoolManager(retries=False, timeout=30)
    separate = f"http://127.0.0.1:{stack.ports['separate']}/"
    secret = {"stems-secret": stack.keys["sink"]}
    asked: list[tuple[str, str, dict[str, str], Any]] = [
        ("POST", separate, {}, b"no event"),
        ("POST", separate, secret, b"no event"),
        ("POST", separate, {**secret, "ce-id": "x", "ce-specversion": "1.0"}, b"{}"),
        ("GET", f"{stack.tracks_url}/v1/tracks", {}, None),
        ("GET", f"{stack.tracks_url}/v1/queue", {}, None),
        ("GET", f"{stack.tracks_url}/v1/queue?limit=x", {}, None),
        ("GET", f"{stack.tracks_url}/v1/tracks/{'0' * 64}", {}, None),
        ("POST", f"{stack.tracks_url}/v1/session", {"Content-Type": "application/json"}, b'{"token": 1}'),
        ("GET", f"{stack.tracks_url}/nothing", {}, None),
    ]
    for method, url, headers, body in asked:
        answer = http.request(method, url, headers=headers, body=body)
        yield json.dumps(dict(answer.headers)).encode() + answer.data
    http.clear()


def _complaint(pipeline: Pipeline) -> bytes | None:
    """Return what the queue shows once it says that the sink is away."""
    queue = pipeline.download("/v1/queue")
    return queue if b"cannot be reached" in queue else None


def test_no_secret_is_told(talkative: Pipeline, tmp_path: Path) -> None:
    stack = talkative.stack
    good = talkative.put(song(tmp_path / "good.wav", seed=900, duration_s=1), "good.wav")
    bad = tmp_path / "bad.mp3"
    bad.write_text("no music")
    talkative.put(bad, "bad.mp3", {"callback": "http://127.0.0.1:9/"})
    talkative.put(bad, "wrong.mp3", {"callback": f"http://example.com/?token={CALLBACK_TOKEN}#wrong"})
    track = talkative.done("good.wav", good, 200)
    for key in ("bad.mp3", "wrong.mp3"):
        assert talkative.ended(key, None, 200)["state"] == "failed"
    told = {"answers": b"".join(_answers(talkative)), "track": json.dumps(track).encode()}
    stack.control("stop", "redis")  # what is said while it is away
    told["away"] = b"".join(_answers(talkative))
    stack.control("start", "redis")
    stack.control("stop", "pipeline:separate")
    talkative.put(bad, "waits.mp3")
    told["queue"] = wait_for("the relay's complaint", lambda: _complaint(talkative), 60)
    assert b"callback=http://example.com: " in told["queue"]
    stack.control("start", "pipeline:separate")
    told |= {path.name: path.read_bytes() for path in (stack.root / "logs").iterdir()}
    told["record"] = talkative.s3.get_object("output", naming.record_object(track["songhash"])).data
    for part in ("relay", "separate", "tracks", "uploader"):
        told[f"repr of {part}"] = repr(Settings.from_env(stack.environ(part))).encode()
    assert len(told["answers"]) > 1000
    assert len(told["relay.log"]) > 100
    for where, text in told.items():
        for name, secret in {**stack.keys, "K_SINK": PASSWORD, "callback": CALLBACK_TOKEN}.items():
            assert secret.encode() not in text, f"the secret {name} stands in {where}"
