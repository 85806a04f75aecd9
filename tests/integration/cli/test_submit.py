"""`stems submit`: putting songs and waiting for them."""

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from minio.commonconfig import Tags

from stems.contract import Upload
from stems.storage import Storage
from stems_relay.listing import Listing
from tests.cli import KEY, Service, program, run


def test_submit_puts_songs_with_what_is_asked_of_them(service: Service) -> None:
    big = random.Random(1).randbytes(11 << 20)  # more than one part
    Path("夜に駆ける.mp3").write_bytes(b"song")
    Path("big.bin").write_bytes(big)
    options = ["--model", "htdemucs", "--stems", "vocals,no_vocals", "--format", "flac", "--prefix", "/in/"]
    options += ["--callback", "https://example.com/done"]
    done = run("submit", *options, "夜に駆ける.mp3", "nowhere.mp3", "big.bin", code=1)
    assert done.stdout.splitlines() == [f"queue/{KEY}  4 B", "queue/in/big.bin  11.5 MB"]
    assert done.stderr == "Error: nowhere.mp3: there is no such file\n"
    found = service.s3.stat_object("queue", KEY)
    metadata = {name.lower(): value for name, value in dict(found.metadata or {}).items()}
    assert metadata["content-type"] == "audio/mpeg"
    assert {name: metadata[f"x-amz-meta-{name}"] for name in ("model", "stems", "format", "callback")} == {
        "callback": "https://example.com/done",
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
    storage, listing = Storage(service.settings), Listing(service.settings)

    def work() -> None:
        left = dict(outcomes)
        while left:
            for upload, _ in listing.uploads():
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
        older = Tags.new_object_tags()
        older.update({"state": "failed", "etag": "0" * 32, "error": "of older bytes"})
        service.s3.set_object_tags("queue", upload.key, older)
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
