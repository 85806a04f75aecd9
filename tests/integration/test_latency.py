"""Songs that are divided to be there sooner (STEMS_DIVIDE=latency), where workers have nothing else to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stems import naming
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.conftest import QUICK
from tests.pipeline import Pipeline, song, wait_for
from tests.programs import need

DURATION_S = 62  # more than two parts of the least length
VOCALS = {"stems": "vocals"}


@pytest.fixture(scope="module")
def two(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    need("stems")
    own = {"STEMS_DIVIDE": "latency", "STEMS_LOG_LEVEL": "INFO"}
    stack = Stack(tmp_path_factory.mktemp("two"), programs, QUICK | own, workers=2)
    stack.start()
    pipeline = Pipeline(stack)
    yield pipeline
    pipeline.close()
    stack.stop()


def made(two: Pipeline, key: str) -> list[list[str]]:
    """Return the parts of a song that each of the workers made, by their logs."""
    logs = [two.stack.root / "logs" / name for name in ("separate.log", "separate-2.log")]
    begun = re.compile(rf"making a part key={re.escape(key)} .*part=(part-\d+-of-\d+)")
    return [begun.findall(log.read_text(errors="replace")) for log in logs]


def announced(two: Pipeline) -> list[str]:
    """Return the notifications that no relay has taken."""
    client: Any = two.redis
    found: list[str] = client.lrange(naming.NOTIFICATIONS, 0, -1)
    return found


def test_a_song_is_divided_where_workers_are_free(two: Pipeline, tmp_path: Path) -> None:
    track = two.done("free.wav", two.put(song(tmp_path / "free.wav", 8101, DURATION_S), "free.wav", VOCALS), 150)
    assert track["duration_s"] == DURATION_S
    one, other = made(two, "free.wav")
    assert sorted(one + other) == ["part-1-of-2", "part-2-of-2"]
    assert len(one) == len(other) == 1


def test_a_song_is_made_whole_where_others_have_the_workers(two: Pipeline, tmp_path: Path) -> None:
    two.stack.control("stop", "pipeline:relay")
    etags = {}
    try:
        # At once in line: the second song is taken while the first is in work, and a third one waits.
        for seed, (key, duration_s) in enumerate({"a.wav": 10, "whole.wav": DURATION_S, "b.wav": 3}.items(), 8102):
            etags[key] = two.put(song(tmp_path / key, seed, duration_s), key, VOCALS)
        wait_for("the last notification", lambda: any("b.wav" in each for each in announced(two)))
    finally:
        two.stack.control("start", "pipeline:relay")
    for key, etag in etags.items():
        assert two.done(key, etag, 150)["key"] == key
        assert made(two, key) == [[], []]
