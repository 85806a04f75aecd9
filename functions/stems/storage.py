"""MinIO as the stages use it: uploads in `queue`, stems and records in `output`. Its errors are translated here."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import urllib3
from minio import Minio
from minio.commonconfig import ComposeSource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.response import BaseHTTPResponse

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.errors import BadAudio, ObjectGone, StorageUnavailable, UnknownTrack
from stems.record import Stem, Track

_CHUNK = 1 << 20
_STREAMED = 16 << 20  # bytes of a stream at a time; S3 takes 10,000 of these
_COPIED = 256 << 20  # bytes copied by one request
_NAMED_LIMIT = 1500  # bytes; S3 takes 2,000 of metadata, and a song is not to fail for its own
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NoSuchVersion"})
_CHANGED = frozenset({"PreconditionFailed"})
# A tag's value may hold these beside letters and digits, 256 characters at most (S3 API, PutObjectTagging).
_TAG_CHARACTERS = frozenset(" +-=._:/@")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came with the bytes of an upload. `size` in bytes."""

    songhash: str
    size: int
    metadata: Mapping[str, str]


class Storage:
    """A client of MinIO; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        settings.require("s3_access_key", "s3_secret_key")
        self._settings = settings
        self._client = client(settings, settings.s3_endpoint)

    def ping(self) -> None:
        """Raise StorageUnavailable unless the bucket `output` answers."""
        with translated(f"the bucket {naming.OUTPUT_BUCKET}"):
            if not self._client.bucket_exists(naming.OUTPUT_BUCKET):
                raise StorageUnavailable(f"there is no bucket {naming.OUTPUT_BUCKET}: minio-config was not applied")

    def put_upload(
        self, key: str, path: Path, metadata: Mapping[str, str], content_type: str, on_progress: Callable[[float], None]
    ) -> str:
        """Store a file in `queue` with user metadata and return its etag; `on_progress` is told the part done."""
        with translated(f"{naming.QUEUE_BUCKET}/{key}"), path.open("rb") as file:
            length = path.stat().st_size
            data = cast(BinaryIO, _Counted(file, length, on_progress))
            written = self._client.put_object(naming.QUEUE_BUCKET, key, data, length, content_type, dict(metadata))
        return written.etag or ""

    def upload_tags(self, key: str) -> Mapping[str, str]:
        """Return the tags of an upload. Raises ObjectGone when it is not there any more."""
        with translated(f"{naming.QUEUE_BUCKET}/{key}"):
            return dict(self._client.get_object_tags(naming.QUEUE_BUCKET, key) or {})

    def fetch(self, upload: Upload, path: Path, max_bytes: int = 0) -> Fetched:
        """Write the upload's bytes to `path`, hashing them on the way.

        Raises ObjectGone if they are not there any more, BadAudio, with nothing fetched, if they are more than
        `max_bytes`; 0: any number.
        """
        digest, size = hashlib.sha256(), 0
        with translated(f"{upload.bucket}/{upload.key}"):
            response = self._client.get_object(
                upload.bucket, upload.key, request_headers={"If-Match": f'"{upload.etag}"'}
            )
            try:
                length = int(response.headers["Content-Length"])
                if max_bytes and length > max_bytes:
                    raise BadAudio(f"the upload has {length} bytes; STEMS_MAX_BYTES allows {max_bytes}")
                with path.open("wb") as file:
                    for chunk in response.stream(_CHUNK):
                        digest.update(chunk)
                        size += file.write(chunk)
            finally:
                response.close()  # half read, it must not serve another request
                response.release_conn()
        return Fetched(digest.hexdigest(), size, dict(response.headers))

    def check_upload(self, upload: Upload) -> Mapping[str, str]:
        """Return the metadata of an upload. Raises ObjectGone unless its bytes are still there."""
        what = f"{upload.bucket}/{upload.key}"
        with translated(what):
            found = self._client.stat_object(upload.bucket, upload.key)
            if found.etag != upload.etag:
                raise ObjectGone(f"{what} has been overwritten")
        return {name: str(value) for name, value in (found.metadata or {}).items()}

    def put_stem(self, name: str, path: Path, content_type: str) -> tuple[int, str]:
        """Store a file in `output`; return its size in bytes and its etag."""
        with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
            written = self._client.fput_object(naming.OUTPUT_BUCKET, name, str(path), content_type=content_type)
        return path.stat().st_size, written.etag or ""

    def copy_stem(self, stem: Stem, name: str, content_type: str) -> str:
        """Store the bytes of a stem as another object of `output` and return its etag. Raises ObjectGone."""
        if not self.has(stem.object, stem.etag):
            raise ObjectGone(f"{naming.OUTPUT_BUCKET}/{stem.object} is not there any more")
        # In pieces: MinIO answers a copy when it is made, and no request may take long.
        pieces = [
            ComposeSource(
                naming.OUTPUT_BUCKET, stem.object, offset=at, length=min(_COPIED, stem.size - at), match_etag=stem.etag
            )
            for at in range(0, stem.size, _COPIED)
        ]
        with translated(f"{naming.OUTPUT_BUCKET}/{stem.object}"):
            metadata: dict[str, Any] = {"Content-Type": content_type}
            written = self._client.compose_object(naming.OUTPUT_BUCKET, name, pieces, metadata=metadata)
        return written.etag or ""

    def put_record(self, track: Track) -> None:
        """Store the track record: from now on the track exists."""
        name, body = naming.record_object(track.songhash), track.to_json()
        named = " ".join(each.removeprefix(track.songhash) for each in track.objects)
        metadata: dict[str, Any] = {naming.NAMED: named} if len(named) < _NAMED_LIMIT else {}
        with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
            self._client.put_object(
                naming.OUTPUT_BUCKET, name, io.BytesIO(body), len(body), "application/json", metadata
            )

    def track(self, songhash: str) -> Track:
        """Return the record of a track. Raises UnknownTrack when there is none."""
        name = naming.record_object(songhash)
        try:
            with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
                response = self._client.get_object(naming.OUTPUT_BUCKET, name)
                try:
                    return Track.from_json(response.read())
                finally:
                    response.release_conn()
        except ObjectGone:
            raise UnknownTrack(f"no track {songhash}") from None
        except ValueError as error:
            # As good as none: a new separation replaces it, and the list of tracks must not wait for it.
            raise UnknownTrack(f"no track {songhash}: its record is damaged: {error}") from error

    def has(self, name: str, etag: str) -> bool:
        """Tell whether the object of this name in `output` holds the bytes of `etag`."""
        try:
            with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
                return self._client.stat_object(naming.OUTPUT_BUCKET, name).etag == etag
        except ObjectGone:
            return False

    def open_stem(self, name: str, etag: str, offset: int, length: int) -> BaseHTTPResponse:
        """Open `length` bytes (> 0) of a stem; the caller streams the response and releases its connection.

        Raises ObjectGone when the object is missing or its bytes are not those of `etag`.
        """
        with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
            return self._client.get_object(
                naming.OUTPUT_BUCKET, name, offset, length, request_headers={"If-Match": f'"{etag}"'}
            )

    def presigned(self, name: str, headers: Mapping[str, str], expires_s: int = 3600) -> str:
        """Return an address, reachable by people, that serves an object of `output` with these response headers."""
        public = client(self._settings, self._settings.s3_public_endpoint or self._settings.s3_endpoint)
        query: dict[str, Any] = {f"response-{header.lower()}": value for header, value in headers.items()}
        return public.presigned_get_object(naming.OUTPUT_BUCKET, name, timedelta(seconds=expires_s), query)

    def open(self, name: str, offset: int = 0, length: int = 0) -> BaseHTTPResponse:
        """Open an object of `output`, or `length` bytes of it; as `open_stem`. Raises ObjectGone."""
        with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
            return self._client.get_object(naming.OUTPUT_BUCKET, name, offset, length)

    def put_stream(self, name: str, stream: BinaryIO) -> None:
        """Store what `stream` yields, of any length, in `output`; what its `read` raises leaves nothing there."""
        with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
            self._client.put_object(naming.OUTPUT_BUCKET, name, stream, -1, part_size=_STREAMED)

    def names(self, folder: str) -> list[str]:
        """List the objects of `output` whose names begin with `folder`, which ends with a slash."""
        with translated(f"{naming.OUTPUT_BUCKET}/{folder}"):
            return [item.object_name or "" for item in self._client.list_objects(naming.OUTPUT_BUCKET, prefix=folder)]

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects of `output`; those that are not there are no error."""
        with translated(f"the bucket {naming.OUTPUT_BUCKET}"):
            for error in self._client.remove_objects(naming.OUTPUT_BUCKET, map(DeleteObject, names)):
                raise StorageUnavailable(f"{naming.OUTPUT_BUCKET}/{error.name}: MinIO answers {error.code}")

    def has_record(self, songhash: str) -> bool:
        """Tell whether a track has a record."""
        name = naming.record_object(songhash)
        try:
            with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
                self._client.stat_object(naming.OUTPUT_BUCKET, name)
        except ObjectGone:
            return False
        return True

    def remove_track(self, track: Track) -> None:
        """Remove a track: first the record, so that from the first moment on there is none."""
        for name in (naming.record_object(track.songhash), *track.objects):
            with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
                self._client.remove_object(naming.OUTPUT_BUCKET, name)

    def remove_stems(self, stems: Iterable[Stem]) -> None:
        """Remove stems that no record names any more."""
        for stem in stems:
            with translated(f"{naming.OUTPUT_BUCKET}/{stem.object}"):
                self._client.remove_object(naming.OUTPUT_BUCKET, stem.object)

    def records(self) -> Iterator[str]:
        """List the song hashes of all track records."""
        with translated(f"the bucket {naming.OUTPUT_BUCKET}"):
            # Not recursive: the folder of parts may hold more objects than there are tracks.
            for item in self._client.list_objects(naming.OUTPUT_BUCKET):
                songhash = naming.songhash_of_record(item.object_name or "")
                if songhash:
                    yield songhash

    def tag(self, upload: Upload, state: str, *, songhash: str = "", error: str = "") -> None:
        """Say on the upload how its song stands; nothing happens if the upload is gone, or has been overwritten.

        By a moment, other bytes may yet come between: the tag tells of which it speaks, and the sweep mends it.
        """
        tags = Tags.new_object_tags()
        values = {naming.TAG_STATE: state, naming.TAG_ETAG: upload.etag, naming.TAG_SONGHASH: songhash}
        values[naming.TAG_ERROR] = _tag_value(error)
        tags.update({name: value for name, value in values.items() if value})
        try:
            self.check_upload(upload)
            with translated(f"{upload.bucket}/{upload.key}"):
                self._client.set_object_tags(upload.bucket, upload.key, tags)
        except ObjectGone:
            return


class _Counted:
    """A file that tells which part of it was read; the client reads it in pieces of some megabytes."""

    def __init__(self, file: BinaryIO, length: int, on_progress: Callable[[float], None]) -> None:
        self._file, self._length, self._on_progress = file, length, on_progress

    def read(self, size: int = -1) -> bytes:
        """Read like a file."""
        data = self._file.read(size)
        if self._length:
            self._on_progress(self._file.tell() / self._length)
        return data


def client(settings: Settings, endpoint: str, *, read_s: float = 30) -> Minio:
    """Make a client that gives up in seconds: what waits longer is the queue, not a request."""
    pool = urllib3.PoolManager(
        maxsize=64,
        timeout=urllib3.Timeout(connect=3, read=read_s),
        retries=urllib3.Retry(total=2, read=0, backoff_factor=0.1, status_forcelist=(502, 503, 504)),
    )
    return Minio(
        endpoint.removeprefix("https://").removeprefix("http://"),
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=endpoint.startswith("https://"),
        region=settings.s3_region,
        http_client=pool,
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the client's errors about `what` into ours."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise ObjectGone(f"{what} is not there any more") from error
        if error.code in _CHANGED:
            raise ObjectGone(f"{what} has been overwritten") from error
        raise StorageUnavailable(f"{what}: MinIO answers {error.code}: {error.message}") from error
    except (ServerError, InvalidResponseError, MinioException) as error:
        raise StorageUnavailable(f"{what}: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        reason = type(getattr(error, "reason", None) or error).__name__
        raise StorageUnavailable(f"{what}: MinIO does not answer ({reason})") from error


def _tag_value(text: str) -> str:
    allowed = "".join(c if (c.isascii() and c.isalnum()) or c in _TAG_CHARACTERS else " " for c in text)
    return " ".join(allowed.split())[:256]
