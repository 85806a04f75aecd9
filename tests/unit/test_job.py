"""What a worker does with more than one song: one at a time, and all in one thread."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from stems.config import Settings
from stems.errors import BadAudio, Busy
from stems.options import Options
from stems.separate import job, workbench
from stems.separate.job import Worker
from stems.separate.work import Stages
from stems.storage import Storage

UPLOAD: Any = SimpleNamespace(key="song", job="1")
MODEL: Any = SimpleNamespace(name="demo", digest="", precision="exact", sources=("vocals",))


def song() -> job._Song:
    shelf: Any = SimpleNamespace(songhash="0" * 64)
    return job._Song(UPLOAD, Path("song"), Options(), Options(), MODEL, shelf)


@pytest.fixture
def worker() -> Worker:
    settings = Settings.from_env({"STEMS_S3_ACCESS_KEY": "x", "STEMS_S3_SECRET_KEY": "x", "STEMS_PART_S": "0"})
    return Worker(settings, Storage(settings))


def test_a_song_waits_for_its_turn_and_not_for_ever(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench, "_TURN_S", 0.2)
    with worker._bench.turn():
        started = time.monotonic()
        with pytest.raises(Busy):
            worker._separate(song(), Stages(), 0)
    assert 0.2 <= time.monotonic() - started < 5


def test_all_songs_are_computed_in_one_thread(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def compute(*arguments: Any, **named: Any) -> NoReturn:
        seen.add(threading.get_ident())
        raise BadAudio("silence")

    def ask() -> None:
        with pytest.raises(BadAudio):
            worker._separate(song(), Stages(), 0)

    monkeypatch.setattr(job, "separate_file", compute)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert not seen & {thread.ident for thread in threads}
