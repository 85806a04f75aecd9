"""When what lies in the bucket of a divided song goes, and when it stays: workers in this process, a real MinIO."""

from typing import Any

import pytest

from stems import lease, naming
from stems.division import Divided, Wanted
from stems.errors import Cancelled, ObjectGone, StorageUnavailable
from stems.record import Track
from stems.separate.shelf import Shelf
from stems.separate.spool import Spool
from stems.separate.work import Stages
from stems.storage import Storage
from tests.integration.test_shelf import Song, fail, once, server, song

__all__ = ["server", "song"]  # fixtures


def test_parts_go_though_minio_was_away_after_the_record(song: Song, monkeypatch: pytest.MonkeyPatch) -> None:
    song.made()
    once(monkeypatch, Shelf, "clear", fail)
    with pytest.raises(StorageUnavailable):
        song.do()
    assert "plan.json" in song.left()
    assert isinstance(song.do(), Track)
    assert song.left() == []


def test_a_worker_that_was_paused_takes_its_part_back(song: Song, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = song.made()
    song.remove(f"{second.name}.json")

    def meanwhile(shelf: Shelf, name: str, about: Any) -> None:
        shelf.put_about(name, about)
        assert isinstance(song.other.do(song.upload, Stages()), Track)
        assert song.left() == []
        song.ended("done")

    once(monkeypatch, Shelf, "put_about", meanwhile)
    song.worker.make(second)
    assert song.left() == []
    song.note(state="separating")
    # Where the song is to be divided again, the part counts.
    monkeypatch.undo()
    song.forget(first.songhash)
    first, second = song.divided()
    once(monkeypatch, Shelf, "put_about", lambda shelf, *_: shelf.forget_plan())
    song.worker.make(second)
    assert f"{second.name}.json" in song.left()


@pytest.mark.parametrize(("state", "kept"), [("cancelled", False), ("gone", False), ("failed", True)])
def test_parts_of_a_song_that_nobody_wants_go(
    song: Song, state: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = song.divided()
    song.worker.make(first)

    def meanwhile(*_: Any) -> None:
        song.ended(state)
        # The worker has the word of Redis with its next segment.
        song.worker._progress._followed[second.job] = True

    once(monkeypatch, Spool, "write", meanwhile)
    with pytest.raises(Cancelled):
        song.worker.make(second)
    assert (f"{first.name}.json" in song.left()) == kept
    assert bool(song.left()) == kept


def test_parts_of_an_upload_that_is_gone_go(song: Song) -> None:
    _, second = song.divided()
    root = song.server.login("root")
    root.remove_object("queue", song.upload.key)
    with pytest.raises(ObjectGone):
        song.worker.make(second)
    assert song.left() == []
    # The same, when no part is wanted any more.
    song.upload = song.put(song.path)
    song.made()
    root.remove_object("queue", song.upload.key)
    with pytest.raises(ObjectGone):
        song.do()
    assert song.left() == []


def test_a_song_that_is_cancelled_while_it_is_divided_leaves_nothing(
    song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, Shelf, "put_plan", lambda *_: song.note(cancel="1"))
    with pytest.raises(Cancelled):
        song.do()
    assert song.left() == []


@pytest.mark.parametrize("how", ["cancelled in a part", "cancelled", "removed before a part", "removed"])
def test_parts_that_another_upload_of_the_song_needs_stay(
    song: Song, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = song.divided()
    song.worker.make(first)
    other, answer = song.again()
    assert [each.name for each in answer.parts] == [last.name]
    if how == "cancelled in a part":
        once(monkeypatch, Spool, "write", lambda *_: cancelled(song, last))
    elif how == "cancelled":
        song.note(cancel="1")
    else:
        song.server.login("root").remove_object("queue", song.upload.key)
    with pytest.raises((Cancelled, ObjectGone)):
        song.worker.make(last) if how.endswith("a part") else song.do()
    song.other.make(answer.wanted(other)[0])
    track = song.other.do(other, Stages())
    assert isinstance(track, Track)
    assert song.left() == []


def cancelled(song: Song, part: Wanted) -> None:
    """Cancel a song while its part is made, as CANCEL and the next word to the worker do."""
    song.ended("cancelled")
    song.worker._progress._followed[part.job] = True


def test_parts_that_nobody_wants_are_removed_when_nobody_is_at_work_on_the_song(
    song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = song.divided()
    wish = f"{first.songhash} {first.plan}"
    song.ended("gone")
    with lease.held(song.worker._redis, first.songhash, 30):
        song.other._leftovers.tidy()
    with monkeypatch.context() as away:
        away.setattr(Storage, "names", fail)
        song.other._leftovers.tidy()
    song.server.redis.config_set("maxmemory", 1)  # it can tell that nobody wants them, and lend no lease
    song.other._leftovers.tidy()
    song.server.redis.config_set("maxmemory", 0)
    assert (song.left() != [], song.server.redis.smembers(naming.UNWANTED)) == (True, {wish})
    song.other._leftovers.tidy()
    assert (song.left(), song.server.redis.smembers(naming.UNWANTED)) == ([], set())


def test_parts_that_another_upload_gave_up_stay_where_a_song_is_being_divided(
    song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = []

    def given_up(shelf: Shelf) -> None:
        wishes.append(f"{shelf.songhash} {shelf.id}")
        song.server.redis.sadd(naming.UNWANTED, *wishes)

    once(monkeypatch, Shelf, "there", given_up)
    for part in song.divided():
        song.other.make(part)
    assert wishes
    assert isinstance(song.do(), Track)


def test_a_part_that_ends_after_its_song_was_dropped_takes_itself_back(
    song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = song.divided()

    def dropped(*_: Any) -> None:
        song.ended("dropped")
        song.other._leftovers.tidy()
        assert song.left() == []

    once(monkeypatch, Shelf, "put_about", dropped)
    song.worker.make(second)
    assert song.left() == []


@pytest.mark.parametrize("how", ["cancelled", "removed"])
def test_what_the_first_worker_of_a_song_left_behind_goes_with_the_song(
    song: Song, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, Shelf, "put_plan", fail)
    with pytest.raises(StorageUnavailable):
        song.do()
    assert song.left() == ["mix.f32"]
    if how == "cancelled":
        song.note(cancel="1")
    else:
        song.server.login("root").remove_object("queue", song.upload.key)
    with pytest.raises((Cancelled, ObjectGone)):
        song.other.do(song.upload, Stages())
    assert song.left() == []


def test_what_a_worker_puts_that_was_paused_until_its_song_had_ended_goes_with_the_next(
    song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, Shelf, "put_plan", lambda *_: song.ended("done"))
    assert isinstance(song.do(), Divided)
    assert {"mix.f32", "plan.json"} <= {*song.left()}
    song.other._leftovers.tidy()
    assert song.left() == []
