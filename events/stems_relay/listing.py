"""The uploads in the bucket `queue` with their tags and metadata, whatever strangers wrote into these.

MinIO puts both into its listing as it got them: a name of metadata that is none in XML (`a&b`), or a tag without a
value, and nothing of the page can be read. The uploads of such a page are asked for one by one.
"""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from urllib.parse import unquote_plus
from xml.etree.ElementTree import ParseError

from minio.datatypes import Object

from stems.config import Settings
from stems.contract import Upload
from stems.errors import ObjectGone
from stems.naming import QUEUE_BUCKET
from stems.storage import client, translated

_log = logging.getLogger(__name__)

_PAGE = 1000  # objects, as many as MinIO lists at a time
_METADATA = "x-amz-meta-"

Tagged = tuple[Upload, Mapping[str, str]]


class Listing:
    """Lists the uploads."""

    def __init__(self, settings: Settings) -> None:
        self._client = client(settings, settings.s3_endpoint)

    def uploads(self) -> Iterator[Tagged]:
        """Yield all uploads with their tags. Raises StorageUnavailable."""
        after: str | None = None
        while True:
            try:
                for item in self._list(after, metadata=True):
                    # The client leaves tags form-encoded, as MinIO gives them.
                    tags = {unquote_plus(name): unquote_plus(value) for name, value in (item.tags or {}).items()}
                    yield from _upload(item, item.metadata or {}, tags)
                    after = item.object_name
                return
            except (ParseError, ValueError) as error:
                _log.warning("uploads are asked for one by one: a page of %s cannot be read: %s", QUEUE_BUCKET, error)
            page = list(islice(self._list(after, metadata=False), _PAGE))
            for item in page:
                yield from self._ask(item)
                after = item.object_name
            if len(page) < _PAGE:
                return

    def _list(self, after: str | None, *, metadata: bool) -> Iterator[Object]:
        with translated(f"the bucket {QUEUE_BUCKET}"):
            yield from self._client.list_objects(
                QUEUE_BUCKET, start_after=after, recursive=True, include_user_meta=metadata
            )

    def _ask(self, item: Object) -> Iterator[Tagged]:
        """Yield what was listed without tags and metadata with these; nothing if it is not there any more."""
        name = item.object_name or ""
        try:
            with translated(f"{QUEUE_BUCKET}/{name}"):
                headers = self._client.stat_object(QUEUE_BUCKET, name).metadata or {}
                tags: Mapping[str, str] = self._client.get_object_tags(QUEUE_BUCKET, name) or {}
        except ObjectGone:
            return
        if headers.get("etag", "").strip('"') == item.etag:  # else its own notification is on the way
            metadata = {key: value for key, value in headers.items() if key.lower().startswith(_METADATA)}
            yield from _upload(item, metadata, dict(tags))


def _upload(item: Object, metadata: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[Tagged]:
    """Yield an object as the upload that it is."""
    # Folders, which consoles and file managers make, are empty; a song may have the name of one.
    if item.object_name and item.etag and item.last_modified and not (item.is_dir and not item.size):
        about = {name: str(value) for name, value in metadata.items()}
        given = (item.object_name, item.etag, item.size or 0, item.last_modified, about)
        yield Upload.from_listing(QUEUE_BUCKET, *given), tags
