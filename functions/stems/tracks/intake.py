"""The bucket `queue` as this function writes it: forms for browsers, streams, songs once more, removal."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, cast

from minio.commonconfig import REPLACE, CopySource, Tags
from minio.datatypes import PostPolicy

from stems import naming
from stems.config import Settings
from stems.contract import Upload
from stems.errors import ObjectGone
from stems.storage import client, translated

# A part of an upload stands in memory. S3 takes 10,000 of them, none smaller than this: 49 GiB in all.
_PART = 5 << 20
_COPY_S = 600


@dataclass(frozen=True, slots=True)
class Form:
    """What a browser sends as multipart/form-data, its file last, to put one object straight into the bucket."""

    url: str
    fields: Mapping[str, str]
    expires: datetime


class Intake:
    """Puts and removes uploads; safe to share between threads. Its errors are those of `storage`."""

    def __init__(self, settings: Settings) -> None:
        self._public = settings.s3_public_endpoint or settings.s3_endpoint
        self._client = client(settings, settings.s3_endpoint)
        self._copier = client(settings, settings.s3_endpoint, read_s=_COPY_S)

    def form(
        self, key: str, content_type: str, metadata: Mapping[str, str], size: tuple[int, int], expires_s: int
    ) -> Form:
        """Sign a form for one object of this key, type and metadata, whose size in bytes is within `size`."""
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=expires_s)
        policy = PostPolicy(naming.QUEUE_BUCKET, expires)
        fields = {"key": key, "Content-Type": content_type, **metadata}
        for name, value in fields.items():
            policy.add_equals_condition(name, value)
        policy.add_content_length_range_condition(*size)
        with translated(f"{naming.QUEUE_BUCKET}/{key}"):
            signature = self._client.presigned_post_policy(policy)
        return Form(f"{self._public}/{naming.QUEUE_BUCKET}", {**fields, **signature}, expires)

    def put(self, key: str, body: object, length: int, content_type: str, metadata: Mapping[str, str]) -> Upload:
        """Store what `body` reads, `length` bytes or (-1) up to its end, a part at a time.

        Raises OSError where it ends early or is longer than S3 takes.
        """
        with translated(f"{naming.QUEUE_BUCKET}/{key}"):
            written = self._client.put_object(
                naming.QUEUE_BUCKET,
                key,
                cast(BinaryIO, body),
                length,
                content_type,
                dict(metadata),
                part_size=_PART if length < 0 or length > _PART else 0,
                num_parallel_uploads=1,
            )
        return self.upload(key, written.etag or "")

    def upload(self, key: str, etag: str) -> Upload:
        """Return an upload as the bucket has it. Raises ObjectGone where it is not there, or other bytes are."""
        with translated(f"{naming.QUEUE_BUCKET}/{key}"):
            # A listing has the time to the millisecond, as notifications have; the headers of an object do not.
            for item in self._client.list_objects(naming.QUEUE_BUCKET, prefix=key, recursive=True):
                if item.object_name == key and item.etag == etag and item.last_modified:
                    return Upload.from_listing(naming.QUEUE_BUCKET, key, etag, item.size or 0, item.last_modified)
                break  # the key itself comes first of all that begin with it
        raise ObjectGone(f"{naming.QUEUE_BUCKET}/{key} is not there any more, or has been overwritten")

    def again(self, key: str, etag: str, metadata: Mapping[str, str]) -> Upload:
        """Announce an upload once more, with other options. Raises ObjectGone when its bytes are not there any more.

        Its tags go: they would tell the sweep that it is done.
        """
        source = CopySource(naming.QUEUE_BUCKET, key, match_etag=etag)
        with translated(f"{naming.QUEUE_BUCKET}/{key}"):
            written = self._copier.copy_object(
                naming.QUEUE_BUCKET,
                key,
                source,
                # S3 refuses a copy onto itself that changes nothing.
                metadata={"rerun": datetime.now(UTC).isoformat(timespec="seconds"), **metadata},
                tags=Tags.new_object_tags(),
                metadata_directive=REPLACE,
                tagging_directive=REPLACE,
            )
        return self.upload(key, written.etag or etag)

    def remove(self, upload: Upload) -> None:
        """Remove an upload."""
        with translated(f"{naming.QUEUE_BUCKET}/{upload.key}"):
            self._client.remove_object(naming.QUEUE_BUCKET, upload.key)
