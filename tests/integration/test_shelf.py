"""What lies in the bucket of a divided song, and when it goes: workers in this process, a real MinIO and Redis."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stems import moves, naming
from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided, Wanted
from stems.errors import Cancelled, StorageUnavailable, TransientError
from stems.record import Track
from stems.separate.job import Worker
from stems.separate.shelf import Shelf
from stems.separate.work import Stages
from stems.storage import Storage
from tests.audio import make
from tests.minio_server import SECRETS, Server, minio
from tests.unit.test_tags import with_cover

VOCALS = {"x-amz-meta-stems": "vocals"}
PART_S = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with minio(tmp_path_factory.mktemp("minio")) as (server, _):
        yield server


class Song:
    """A song of two parts in the bucket `queue`, and a worker for it."""

    def __init__(
        self, server: Server, path: Path, *, metadata: dict[str, str] = VOCALS, part_s: float = PART_S
    ) -> None:
        self.server, self.path = server, path
        settings = Settings.from_env(
            {
                "STEMS_S3_ENDPOINT": f"http://{server.endpoint}",
                "STEMS_S3_ACCESS_KEY": "separate",
                "STEMS_S3_SECRET_KEY": SECRETS["separate"],
                "STEMS_REDIS_URL": f"redis://127.0.0.1:{server.redis.connection_pool.connection_kwargs['port']}/0",
                "STEMS_MODEL": "untrained",
                "STEMS_PART_S": str(part_s),
            }
        )
        self.storage = Storage(settings)
        self.worker, self.other = Worker(settings, self.storage), Worker(settings, self.storage)
        self.client = server.login("uploader")
        self.metadata = metadata
        self.upload = self.put(path)

    def put(self, path: Path, key: str = "") -> Upload:
        key = key or path.name
        etag = self.client.fput_object("queue", key, str(path), metadata={**self.metadata}).etag or ""
        modified = self.client.stat_object("queue", key).last_modified
        assert modified
        return Upload.from_listing("queue", key, etag, path.stat().st_size, modified)

    def do(self) -> Track | Divided:
        return self.worker.do(self.upload, Stages())

    def divided(self) -> list[Wanted]:
        """Divide the song, and note it as the relay does."""
        answer = self.do()
        assert isinstance(answer, Divided)
        self.note(songhash=answer.songhash, plan=answer.plan, state="separating")
        return answer.wanted(self.upload)

    def made(self) -> list[Wanted]:
        """Divide the song and make its parts."""
        wanted = self.divided()
        for part in wanted:
            self.worker.make(part)
        return wanted

    def note(self, **fields: str) -> None:
        for name, value in fields.items():
            self.server.redis.hset(naming.job_key(self.upload.job), name, value)

    def again(self) -> tuple[Upload, Divided]:
        """Upload the same bytes as another song and divide that."""
        upload = self.put(self.path, "again")
        answer = self.other.do(upload, Stages())
        assert isinstance(answer, Divided)
        return upload, answer

    def ended(self, state: str) -> None:
        """Note how the song ended, as the relay does, or whoever cancels it."""
        self.note(state=state)
        if state != "failed":
            self.server.redis.eval(moves.GIVEN_UP, 0, self.upload.job)

    def left(self) -> list[str]:
        """Return what there is of the song's parts, all plans of it, without their folders."""
        found = self.server.login("root").list_objects("output", naming.PARTS_FOLDER, recursive=True)
        return sorted((item.object_name or "").rsplit("/")[-1] for item in found)

    def objects(self) -> dict[str, str]:
        """Return the names of the same, by what they are called in the folder of the plan."""
        found = self.server.login("root").list_objects("output", naming.PARTS_FOLDER, recursive=True)
        return {(item.object_name or "").rsplit("/")[-1]: item.object_name or "" for item in found}

    def forget(self, songhash: str) -> None:
        """Remove the song's record."""
        self.server.login("root").remove_object("output", naming.record_object(songhash))

    def remove(self, *names: str) -> None:
        objects = self.objects()
        self.storage.remove([objects[name] for name in names])


@pytest.fixture
def song(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Song]:
    seed = sum(map(ord, request.node.name))
    made = make(tmp_path / f"{seed}.flac", "-c:a", "flac", duration_s=11 + seed % 97 / 100)
    yield Song(server, made)
    root = server.login("root")
    for bucket in ("queue", "output"):
        for item in root.list_objects(bucket, recursive=True):
            root.remove_object(bucket, item.object_name or "")
    server.redis.flushall()


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[..., None]) -> None:
    """Have `act` done at the next call of a method, before it."""
    method = getattr(owner, name)

    def called(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, method)
        act(*arguments, **named)
        return method(*arguments, **named)

    monkeypatch.setattr(owner, name, called)


def fail(*_: Any) -> None:
    raise StorageUnavailable("MinIO is away")


def test_a_divided_song_is_fetched_once(song: Song, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    fetch = Storage.fetch

    def counted(storage: Storage, upload: Upload, *arguments: Any) -> Any:
        fetched.append(upload.key)
        return fetch(storage, upload, *arguments)

    monkeypatch.setattr(Storage, "fetch", counted)
    wanted = song.divided()
    assert isinstance(song.do(), Divided)
    for part in wanted:
        song.worker.make(part)
    track = song.do()
    assert isinstance(track, Track)
    assert fetched == [song.upload.key]
    assert track.stages_s.keys() >= {"fetch", "decode", "separate", "encode", "put"}
    # Known to be divided, and its plan is gone: the song is made of its bytes.
    song.forget(track.songhash)
    assert isinstance(song.do(), Divided)
    assert len(fetched) == 2


def test_a_part_that_another_version_wrote_is_made_again(song: Song) -> None:
    first, second = song.made()
    objects = song.objects()
    body = json.dumps({"loudest": 0.5, "points": {}}).encode()
    (song.path.parent / "old.json").write_bytes(body)
    song.storage.put_stem(objects[f"{second.name}.json"], song.path.parent / "old.json", "application/json")
    with pytest.raises(TransientError, match="a part of the song was lost"):
        song.do()
    answer = song.do()
    assert isinstance(answer, Divided)
    assert [each.name for each in answer.parts] == [second.name]
    song.storage.put_stem(objects[f"{first.name}.json"], song.path.parent / "old.json", "application/json")
    for part in (first, second):
        song.worker.make(part)
    assert isinstance(song.do(), Track)


def test_who_makes_a_part_looks_for_it_alone(song: Song, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = song.divided()
    listed: list[str] = []
    once(monkeypatch, Storage, "names", lambda _, folder: listed.append(folder))
    for _ in range(2):
        song.worker.make(first)
    assert listed == []


def test_a_cover_that_is_lost_does_not_end_a_song(server: Server, tmp_path: Path, song: Song) -> None:
    path = with_cover(tmp_path, "song.mp3", "64x48", title="Song", duration_s=11)
    covered = Song(server, path, metadata={**VOCALS, "x-amz-meta-format": "mp3"})
    covered.made()
    covered.remove("cover.jpg")
    assert isinstance(covered.do(), Track)
    assert covered.left() == []


def test_a_record_keeps_its_files_until_another_takes_its_place(
    server: Server, tmp_path: Path, song: Song, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path / "wishes.flac", "-c:a", "flac", duration_s=11.2)

    def asked(format: str) -> Song:
        one = Song(server, made, metadata={"x-amz-meta-format": format}, part_s=1.7)
        one.made()
        joins = one.divided()
        assert {each.name for each in joins} == {f"join-{stem}" for stem in ("drums", "bass", "other", "vocals")}
        for join in joins:
            one.worker.make(join)
        return one

    before = asked("mp3-128").do()
    assert isinstance(before, Track)
    better = asked("mp3-192")
    whole = {stem.object: (stem.etag, stem.size) for stem in before.stems}

    def published() -> dict[str, tuple[str, int]]:
        found = [server.login("root").stat_object("output", name) for name in whole]
        assert {item.content_type for item in found} == {"audio/mpeg"}
        return {item.object_name or "": (item.etag or "", item.size or 0) for item in found}

    assert published() == whole
    better.remove("join-other.mp3")
    with pytest.raises(TransientError, match="is not there any more"):
        better.do()
    assert published() == whole
    (join,) = [each for each in better.divided() if each.name == "join-other"]
    better.worker.make(join)
    once(monkeypatch, Shelf, "there", lambda *_: better.note(cancel="1"))
    with pytest.raises(Cancelled):
        better.do()
    assert published() == whole
    server.redis.hdel(naming.job_key(better.upload.job), "cancel")
    after = asked("mp3-192").do()
    assert isinstance(after, Track)
    assert {stem.object: (stem.etag, stem.size) for stem in after.stems} == published()
    assert {stem.quality for stem in after.stems} == {"192"}
    assert song.left() == []
