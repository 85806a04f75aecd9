"""What becomes of a song whose worker has one already."""

import time
from typing import Any

import pytest

from stems.config import Settings
from stems.errors import Busy
from stems.separate import job
from stems.separate.job import Worker
from stems.storage import Storage


def test_a_song_waits_for_its_turn_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_TURN_S", 0.2)
    settings = Settings.from_env({"STEMS_S3_ACCESS_KEY": "x", "STEMS_S3_SECRET_KEY": "x"})
    worker, nothing = Worker(settings, Storage(settings)), [Any] * 6
    with worker._separating:
        started = time.monotonic()
        with pytest.raises(Busy):
            worker._separate(*nothing)  # type: ignore[arg-type]
    assert 0.2 <= time.monotonic() - started < 5
