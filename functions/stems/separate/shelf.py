"""The parts of one divided song in the bucket `output`: its plan, its sound, what is made of it so far.

A part is there when its `.json` is, which is written last. No other program reads here, and all of it expires.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from stems import naming
from stems.errors import ObjectGone
from stems.record import Stem
from stems.separate.plan import Plan
from stems.separate.publish import store
from stems.separate.work import Made
from stems.storage import Storage, translated

T = TypeVar("T")

_RAW = "application/octet-stream"
_CHUNK = 1 << 20
_PLAN, _MIX, _COVER = "plan.json", "mix.f32", "cover.jpg"


@dataclass(frozen=True, slots=True)
class About:
    """What is to be known of a part. `peak`: its loudest sample; `peaks`: its points to draw, by stem."""

    peak: float
    peaks: Mapping[str, list[float]]
    stages_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Joined:
    """What is to be known of a join: its files, which lie on the shelf."""

    stems: tuple[Stem, ...]
    stages_s: Mapping[str, float]


class Shelf:
    """What is there of the plan of this `id` of a song."""

    def __init__(self, storage: Storage, songhash: str, id: str) -> None:
        self.songhash, self.id = songhash, id
        self._storage = storage
        self._folder = naming.part_folder(songhash, id)

    def plan(self) -> Plan | None:
        """Return the plan, if there is one that can be read."""
        try:
            return Plan.from_json(self._read(_PLAN))
        except (ObjectGone, ValueError):
            return None

    def put_plan(self, plan: Plan, cover: Path | None) -> None:
        """Store the plan, and the song's cover before it: from now on the song is divided."""
        if cover:
            self._storage.put_stem(self._folder + _COVER, cover, "image/jpeg")
        self._put(_PLAN, plan.to_json())

    def put_mix(self, sound: BinaryIO) -> None:
        """Store the decoded song, raw."""
        self._storage.put_stream(self._folder + _MIX, sound)

    def fetch_mix(self, path: Path, offset: int, length: int) -> None:
        """Write `length` bytes of the decoded song to a file. Raises ObjectGone."""
        with path.open("wb") as file:
            file.writelines(self._stream(_MIX, length, offset))

    def fetch_cover(self, path: Path) -> Path | None:
        """Write the song's cover to a file and return it; None where it is lost: nothing is made anew for that."""
        try:
            path.write_bytes(self._read(_COVER))
        except ObjectGone:
            return None
        return path

    def there(self) -> set[str]:
        """Return the names of the parts and joins that are there."""
        names = [name.removeprefix(self._folder) for name in self._storage.names(self._folder)]
        return {name.removesuffix(".json") for name in names if name.endswith(".json") and name != _PLAN}

    def put_sound(self, name: str, files: Sequence[tuple[str, Path]]) -> None:
        """Store the raw file of each stem of a part."""
        for stem, path in files:
            self._storage.put_stem(f"{self._folder}{name}-{stem}.f32", path, _RAW)

    def put_file(self, join: str, made: Made, gain_db: float) -> Stem:
        """Store a file of a joined stem: here, as a record may name the object of that name yet, which is to stay."""
        return store(self._storage, f"{self._folder}{join}.{made.format}", made, gain_db)

    def put_about(self, name: str, about: About | Joined) -> None:
        """Store what is to be known of a part, or of a join: from now on it is there."""
        self._put(f"{name}.json", json.dumps(asdict(about)).encode())

    def about(self, part: str) -> About:
        """Return what is to be known of a part. Raises ObjectGone where it is not there, or damaged."""
        return self._told(part, lambda found: About(**found))

    def joined(self, join: str) -> Joined:
        """Return what is to be known of a join. Raises as `about`, also where one of its files is not there."""
        told = self._told(
            join, lambda found: Joined(**{**found, "stems": tuple(Stem(**each) for each in found["stems"])})
        )
        for stem in told.stems:
            if not self._storage.has(stem.object, stem.etag):
                self.forget(join)
                raise ObjectGone(f"{stem.object} is not there any more")
        return told

    def has(self, name: str) -> bool:
        """Tell whether a part, or a join, is there."""
        try:
            self.joined(name) if name.startswith("join-") else self.about(name)
        except ObjectGone:
            return False
        return True

    def sound(self, name: str, stem: str, length: int) -> Iterator[bytes]:
        """Yield the `length` bytes of a stem of a part. Raises ObjectGone; then the part is to be made anew."""
        try:
            yield from self._stream(f"{name}-{stem}.f32", length)
        except ObjectGone:
            self.forget(name)
            raise

    def forget(self, *names: str) -> None:
        """Have parts be made anew."""
        self._storage.remove([f"{self._folder}{name}.json" for name in names])

    def forget_plan(self) -> None:
        """Have the song be divided anew; parts that are there still count."""
        self._storage.remove([self._folder + _PLAN])

    def clear(self) -> None:
        """Remove everything, the plan first: what is not whole must not look so."""
        if names := self._storage.names(self._folder):
            self.forget_plan()
            self._storage.remove(names)

    def _put(self, name: str, body: bytes) -> None:
        self._storage.put_stream(self._folder + name, io.BytesIO(body))

    def _told(self, name: str, read: Callable[[Any], T]) -> T:
        try:
            return read(json.loads(self._read(f"{name}.json")))
        # Also what another version of the program wrote: it is made anew.
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.forget(name)
            raise ObjectGone(f"{self._folder}{name}.json is damaged: {error}") from error

    def _read(self, name: str) -> bytes:
        answer = self._storage.open(self._folder + name)
        try:
            with translated(self._folder + name):
                return bytes(answer.read())
        finally:
            answer.release_conn()

    def _stream(self, name: str, length: int, offset: int = 0) -> Iterator[bytes]:
        answer, left = self._storage.open(self._folder + name, offset, length), length
        try:
            with translated(self._folder + name):
                for chunk in answer.stream(_CHUNK):
                    left -= len(chunk)
                    yield chunk
        finally:
            with suppress(OSError):
                answer.close()  # half read, it must not serve another request
            answer.release_conn()
        if left:
            raise ObjectGone(f"{self._folder}{name} is {left} bytes short")
