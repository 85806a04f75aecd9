"""Clients of the classic API against the whole pipeline: one made from the contract alone, and our two samples."""

import base64
import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import Pipeline, samples, song, wait_for
from tests.programs import CHECKOUT
from tests.receiver import Receiver

SAMPLES = CHECKOUT / "functions" / "samples"


class LabClient:
    """Does what the contract says of such clients: plain JSON, no waiting, 200 with JSON or an error."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.printed: list[str] = []

    def make(self, method: str, endpoint: str, data: object = None) -> Any:
        """Send data as JSON, also where it is nothing; return the answer's, or None after an error."""
        headers = {"Content-type": "application/json"}
        body = json.dumps(data).encode()
        request = urllib.request.Request(f"{self._url}/{endpoint}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text = response.read().decode()
                if response.status == 200:
                    return json.loads(text)
                self.printed.append(f"response code is {response.status}, raw response is {text}")
        except urllib.error.HTTPError as error:
            self.printed.append(f"response code is {error.code}, raw response is {error.read().decode()}")
        return None

    def get(self, endpoint: str) -> bytes | None:
        """Return the bytes of a file, None while it is not there."""
        try:
            with urllib.request.urlopen(f"{self._url}/{endpoint}", timeout=60) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None


def test_the_labs_sequence_of_requests(pipeline: Pipeline, tmp_path: Path) -> None:
    client = LabClient(pipeline.settings.tracks_url)
    assert client.make("GET", "") is not None, "a load balancer asks for it"
    songs = [song(tmp_path / f"short{seed}.wav", seed=seed, duration_s=2) for seed in (7100, 7101)]
    hashes, returned = [], []
    with Receiver().open() as receiver:
        for path in songs:
            returned.append({"mp3": str(path), "data": ["to be returned", {"Ö": None, "n": 1.5}]})
            data = {
                "mp3": base64.b64encode(path.read_bytes()).decode("utf-8"),
                "model": "untrained",
                "callback": {"url": receiver.url, "data": returned[-1]},
            }
            answer = client.make("POST", "apiv1/separate", data)
            assert answer["reason"] == "Song enqueued for separation"
            hashes.append(answer["hash"])
            queue = client.make("GET", "apiv1/queue/")
            assert hashes[-1] in queue["queue"] or client.get(f"apiv1/track/{hashes[-1]}/vocals")
        for path, songhash in zip(songs, hashes, strict=True):
            assert songhash == hashlib.sha256(path.read_bytes()).hexdigest()
            found = {}
            for stem in ("vocals", "drums", "bass", "base", "other"):
                for name in (stem, f"{stem}.mp3"):
                    endpoint = f"apiv1/track/{songhash}/{name}"
                    found[name] = wait_for(endpoint, lambda endpoint=endpoint: client.get(endpoint))  # type: ignore[misc]
                assert found[stem] == found[f"{stem}.mp3"]
                assert len(samples(found[stem])) == 2 * 44100
            assert found["base"] == found["bass"]
            assert len(set(found.values())) == 4
        wait_for("both callbacks", lambda: len(receiver.posts) == 2)
    assert sorted((json.loads(post.body) for post in receiver.posts), key=lambda data: str(data["mp3"])) == returned
    assert {post.headers["content-type"] for post in receiver.posts} == {"application/json"}
    assert all("webhook-signature" in post.headers for post in receiver.posts)
    assert client.make("GET", "apiv1/queue")["queue"] == []
    first, second = hashes
    assert client.make("GET", f"apiv1/remove/{first}/vocals.mp3")["reason"]
    assert client.get(f"apiv1/track/{first}/vocals.mp3") is None
    assert client.get(f"apiv1/track/{first}/drums") is not None
    for stem in ("drums", "base", "other"):
        assert client.make("DELETE", f"apiv1/remove/{first}/{stem}") is not None
    assert pipeline.get(f"/v1/tracks/{first}")["status"] == 404
    assert client.get(f"apiv1/track/{second}/vocals") is not None
    assert client.printed == [], "a client of the lab prints what it takes for an error"
    client.make("POST", "apiv1/separate", {"mp3": "no base64!"})
    (printed,) = client.printed
    assert "400" in printed
    assert "mp3: not base64" in printed


def test_a_callback_that_fails_is_nothing_to_the_song(pipeline: Pipeline, tmp_path: Path) -> None:
    client = LabClient(pipeline.settings.tracks_url)
    path = song(tmp_path / "short.wav", seed=7102, duration_s=1)
    data = {"mp3": base64.b64encode(path.read_bytes()).decode(), "callback": {"url": "http://localhost:9", "data": {}}}
    songhash = client.make("POST", "apiv1/separate", data)["hash"]
    wait_for("the vocals", lambda: client.get(f"apiv1/track/{songhash}/vocals"))


def run(pipeline: Pipeline, folder: Path, *command: str) -> str:
    """Run a sample; return what it prints."""
    environ = {"STEMS_URL": pipeline.settings.tracks_url, "PATH": ""}
    program = [sys.executable, str(SAMPLES / command[0]), *command[1:]]
    done = subprocess.run(program, cwd=folder, env=environ, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sample_for_a_laptop(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "mine.wav", seed=7103, duration_s=1)
    printed = run(pipeline, tmp_path, "short-sample-requests.py", str(path))
    assert "Song enqueued for separation" in printed
    for stem in ("vocals", "drums", "bass", "other"):
        audio = (tmp_path / "stems-out" / "mine" / f"{stem}.mp3").read_bytes()
        assert len(samples(audio)) == 44100


def test_the_sample_for_a_cluster(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    for seed in (7104, 7105, 7106):
        song(folder / f"song {seed}.wav", seed=seed, duration_s=1)
    (folder / "cover.jpg").write_bytes(b"no song")
    with Receiver().open() as receiver:
        given = ("--callback", receiver.url, "--model", "untrained", "--get", "got", "--at-a-time", "2")
        printed = run(pipeline, tmp_path, "sample-requests.py", *given, str(folder))
        wait_for("the callbacks", lambda: len(receiver.posts) == 3)
    assert "3 songs sent" in printed
    assert printed.count("separated") == 3
    assert len(list((tmp_path / "got").glob("*/*.mp3"))) == 12
    called = {json.loads(post.body)["song"] for post in receiver.posts}
    assert called == {"song 7104.wav", "song 7105.wav", "song 7106.wav"}


@pytest.mark.parametrize("name", ["short-sample-requests.py", "sample-requests.py"])
def test_samples_say_what_is_wrong(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "x.mp3"
    folder.write_bytes(b"song")
    program = [sys.executable, str(SAMPLES / name), str(folder if name.startswith("short") else tmp_path)]
    environ = {"STEMS_URL": "http://127.0.0.1:9", "PATH": ""}
    began = time.monotonic()
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 50
    assert f"`{name}" in (SAMPLES / "README.md").read_text()
