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
from tests.pipeline import Pipeline, song
from tests.programs import need


@pytest.fixture(scope="module")
def talkative(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    need("stems")
    stack = Stack(tmp_path_factory.mktemp("talkative"), programs, QUICK | {"STEMS_LOG_LEVEL": "DEBUG"})
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


def test_no_secret_is_told(talkative: Pipeline, tmp_path: Path) -> None:
    stack = talkative.stack
    good = talkative.put(song(tmp_path / "good.wav", seed=900, duration_s=1), "good.wav")
    bad = tmp_path / "bad.mp3"
    bad.write_text("no music")
    talkative.put(bad, "bad.mp3", {"callback": "http://127.0.0.1:9/"})
    track = talkative.done("good.wav", good, 200)
    assert talkative.ended("bad.mp3", None, 200)["state"] == "failed"
    told = {"answers": b"".join(_answers(talkative)), "track": json.dumps(track).encode()}
    stack.control("stop", "redis")  # what is said while it is away
    told["away"] = b"".join(_answers(talkative))
    stack.control("start", "redis")
    told |= {path.name: path.read_bytes() for path in (stack.root / "logs").iterdir()}
    told["record"] = talkative.s3.get_object("output", naming.record_object(track["songhash"])).data
    for part in ("relay", "separate", "tracks", "uploader"):
        told[f"repr of {part}"] = repr(Settings.from_env(stack.environ(part))).encode()
    assert len(told["answers"]) > 1000
    assert len(told["relay.log"]) > 100
    for where, text in told.items():
        for name, secret in stack.keys.items():
            assert secret.encode() not in text, f"the secret {name} stands in {where}"
