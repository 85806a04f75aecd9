"""A song that kills whoever touches it becomes a dead letter, and the others flow; what becomes of dead letters."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.faults import checker, songs
from tests.faults.run import WORKERS
from tests.faults.stack import ATTEMPTS, Stack, wait
from tests.proxy import Trigger

# The waits below are longer than the usual limit of a test.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def cli(stack: Stack, *arguments: str) -> str:
    """Run `stems dead …` as a person does."""
    environ = {**os.environ, **stack.environ("uploader"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "stems.cli", "dead", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rest(stack: Stack, method: str, path: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{stack.tracks_url}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Poison:
    """Kills each worker that fetches one song, for as long as it is in the way."""

    def __init__(self, stack: Stack, key: str) -> None:
        self._stack, self._request = stack, re.compile(rb"^GET /queue/" + re.escape(key).encode())
        self.kills = 0

    def __enter__(self) -> "Poison":
        for part in WORKERS:
            self._arm(part)
        return self

    def __exit__(self, *_: object) -> None:
        for part in WORKERS:
            self._stack.proxies[f"{part}-minio"].triggers.clear()

    def _arm(self, part: str) -> None:
        def kill() -> None:
            self.kills += 1
            self._stack.parts[part].send(signal.SIGKILL)
            self._arm(part)

        self._stack.proxies[f"{part}-minio"].triggers[:] = [Trigger(self._request, kill)]


def tags(stack: Stack, upload: songs.Accepted) -> dict[str, str]:
    return dict(checker.tags_of(stack.root, upload.key))


def test_poison_becomes_a_dead_letter_and_the_others_flow(stack: Stack) -> None:
    uploader = stack.uploader("poison-")
    with Poison(stack, "poison-bad.wav") as poison:
        bad = uploader.put("bad", songs.make("bad"))
        good = [uploader.put(f"good{number}", songs.make(f"good{number}")) for number in range(2)]
        assert wait(lambda: checker.ended(stack.root, bad), 300)
        assert wait(lambda: all(checker.ended(stack.root, each) for each in good), 200)
        assert 1 < poison.kills <= ATTEMPTS  # on a busy machine, a delivery to a worker that starts may time out
        assert tags(stack, bad)["state"] == "failed"
        assert f"gave up after {ATTEMPTS} attempts" in tags(stack, bad)["error"]
        assert checker.problems(stack.root, good, good, stack.known) == []

        (letter,) = json.loads(cli(stack, "list", "--json"))
        assert letter["key"] == bad.key
        assert bad.key in cli(stack, "show", letter["id"])
        status, job = rest(stack, "GET", f"/v1/jobs/{letter['id']}")
        assert (status, job["state"]) == (200, "failed")
        assert f"gave up after {ATTEMPTS} attempts" in job["error"]

    # The cause is gone.
    stack.ready()
    assert rest(stack, "POST", f"/v1/jobs/{letter['id']}/retry")[0] == 202
    assert wait(lambda: tags(stack, bad).get("state") == "done", 200)
    assert checker.problems(stack.root, [bad], [bad], stack.known) == []
    assert json.loads(cli(stack, "list", "--json")) == []


def test_dead_letters_are_retried_and_dropped_by_both_hands(stack: Stack) -> None:
    uploader = stack.uploader("dead-")
    uploads = {name: uploader.put(name, songs.no_song(name)) for name in ("by-rest", "by-hand")}
    assert wait(lambda: all(checker.ended(stack.root, each) for each in uploads.values()), 200)
    letters = {each["key"]: each["id"] for each in json.loads(cli(stack, "list", "--json"))}
    assert set(letters) == {upload.key for upload in uploads.values()}

    cli(stack, "retry", letters["dead-by-hand.wav"])
    assert wait(lambda: len(json.loads(cli(stack, "list", "--json"))) == 2, 200), "it is no song still"
    assert rest(stack, "DELETE", f"/v1/jobs/{letters['dead-by-rest.wav']}")[0] == 202
    cli(stack, "drop", letters["dead-by-hand.wav"])
    assert json.loads(cli(stack, "list", "--json")) == []
    assert wait(lambda: all(tags(stack, each).get("state") != "failed" for each in uploads.values()), 200)


def test_from_nothing_but_the_buckets_everything_comes_back(stack: Stack) -> None:
    uploader = stack.uploader("buckets-")
    done = [uploader.put(f"done{number}", songs.make(f"done{number}")) for number in range(2)]
    dead = uploader.put("dead", songs.no_song("buckets"))
    assert wait(lambda: all(checker.ended(stack.root, each) for each in (*done, dead)), 200)
    for name in ("relay1", "relay2"):
        stack.parts[name].down()
    waiting = uploader.put("waiting", songs.make("waiting"))
    with stack.stopped():
        for path in (stack.folder / "redis").rglob("*"):
            if path.is_file():
                path.unlink()
        for path in (stack.folder / "events").rglob("*"):  # what MinIO has not told yet
            if path.is_file():
                path.unlink()
    assert wait(lambda: checker.ended(stack.root, waiting), 200), "the queue"
    _, page = rest(stack, "GET", "/v1/tracks?limit=100")
    listed = {track["songhash"] for track in page["tracks"]}
    assert {upload.song.songhash for upload in (*done, waiting)} <= listed, "the listing"
    assert wait(lambda: dead.key in cli(stack, "list", "--json"), 200), "dead letters"

    begun = sum(1 for part in WORKERS for line in stack.lines(part) if line.get("message") == "separating")
    again = uploader.put("again", done[0].song)
    assert wait(lambda: checker.ended(stack.root, again), 200)
    assert tags(stack, again)["songhash"] == done[0].song.songhash
    now = sum(1 for part in WORKERS for line in stack.lines(part) if line.get("message") == "separating")
    assert now == begun, "the same bytes are not separated again"
    assert checker.problems(stack.root, [*done, waiting, again], [*done, waiting], stack.known) == []
