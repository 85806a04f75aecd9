"""Fetching models, from a mirror on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stems.separate import weights
from stems.separate.weights import Weights
from tests.cli import invoke

BYTES = b"weights " * 1000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Serve `served/tiny-00000000.th`; return the address of its folder."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "tiny-00000000.th").write_bytes(BYTES)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Publish the model `tiny` at an address where nobody answers; return its SHA-256."""
    digest = hashlib.sha256(BYTES).hexdigest()
    published = {"tiny": (Weights("tiny-00000000.th", "http://127.0.0.1:9", digest),)}
    monkeypatch.setattr(weights, "PUBLISHED", published)
    monkeypatch.setenv("STEMS_MODEL_DIR", "models")
    return digest


def files() -> list[str]:
    return sorted(path.name for path in Path("models").glob("*"))


def test_fetch_brings_a_checked_model(mirror: str, tiny: str) -> None:
    done = invoke("model", "fetch", "tiny", "--from", mirror)
    assert done.exit_code == 0, done.output
    assert "models/tiny-00000000.th  8.0 kB, checked" in done.stdout
    assert "Licence: " in done.stdout
    assert files() == ["tiny-00000000.th", "tiny.yaml"]
    assert Path("models/tiny-00000000.th").read_bytes() == BYTES
    assert Path("models/tiny.yaml").read_text() == "models: ['tiny']\n"
    # Without any network, what is there is enough.
    assert "already there" in invoke("model", "fetch", "tiny").stdout


def test_fetch_keeps_no_other_bytes(mirror: str, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "tiny-00000000.th").write_bytes(b"something else")
    done = invoke("model", "fetch", "tiny", "--from", mirror)
    assert done.exit_code == 1
    assert hashlib.sha256(b"something else").hexdigest() in done.stderr
    assert tiny in done.stderr
    assert files() == []


def test_fetch_replaces_a_damaged_file(mirror: str, tiny: str) -> None:
    Path("models").mkdir()
    Path("models/tiny-00000000.th").write_bytes(BYTES[:-1])
    assert invoke("model", "fetch", "tiny", "--from", mirror).exit_code == 0
    assert Path("models/tiny-00000000.th").read_bytes() == BYTES


@pytest.mark.parametrize("missing", ["", "nowhere/"])
def test_fetch_without_an_answer_names_address_and_alternative(mirror: str, tiny: str, missing: str) -> None:
    done = invoke("model", "fetch", "tiny", *(["--from", mirror + missing] if missing else []))
    assert done.exit_code == 1
    assert f"{mirror + missing if missing else 'http://127.0.0.1:9/'}tiny-00000000.th cannot be read" in done.stderr
    assert "copy tiny-00000000.th into models by hand" in done.stderr
    assert files() == []


def test_published_files_are_named_by_their_checksums() -> None:
    for name, parts in weights.PUBLISHED.items():
        for each in parts:
            assert len(each.sha256) == 64, name
            assert each.file == f"{each.signature}-{each.sha256[:8]}.th"
