"""The sweep: compare the bucket `queue` with what is done and enter the rest in the line.

MinIO can lose an event between the commit of an object and its notification, and Redis can lose everything; the bucket
is what remains. An upload whose tags say how it ended, of these very bytes, needs nothing.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from stems import naming
from stems.contract import Upload
from stems.jobs import now_ms
from stems.storage import Storage
from stems_relay.inbox import Inbox
from stems_relay.listing import Listing, Tagged

_log = logging.getLogger(__name__)

# Younger uploads have their notification on the way (a stored one takes about 3 s).
GRACE_MS = 10_000
_FINAL = frozenset({"done", "failed", "dropped", "removed", "cancelled"})
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Swept:
    """How many uploads were looked at, and how many entered the line."""

    seen: int
    entered: int


async def sweep(listing: Listing, storage: Storage, inbox: Inbox) -> Swept:
    """Look at every upload once. Raises StorageUnavailable or a Redis error, having done part of the work."""
    uploads, seen, entered = listing.uploads(), 0, 0
    while batch := await asyncio.to_thread(_next, uploads):
        seen += len(batch)
        for upload, tags in batch:
            if is_dead(upload, tags):
                await inbox.exhume(upload, tags.get(naming.TAG_ERROR, ""))
            elif is_open(upload, tags, now_ms()):
                entered += await _enter(storage, inbox, upload)
    return Swept(seen, entered)


def is_dead(upload: Upload, tags: Mapping[str, str]) -> bool:
    """Tell whether the upload says that it is a dead letter, which Redis may have forgotten."""
    return tags.get(naming.TAG_ETAG) == upload.etag and tags.get(naming.TAG_STATE) == "failed"


def is_open(upload: Upload, tags: Mapping[str, str], now: int) -> bool:
    """Tell whether nothing says yet how this upload ended."""
    about_these_bytes = tags.get(naming.TAG_ETAG, upload.etag) == upload.etag
    ended = about_these_bytes and tags.get(naming.TAG_STATE) in _FINAL
    return not ended and upload.uploaded_ms < now - GRACE_MS


async def _enter(storage: Storage, inbox: Inbox, upload: Upload) -> bool:
    entered = await inbox.claim(upload)
    if entered in {"new", "again"}:
        _log.info("swept up an upload that nobody had announced", extra={"key": upload.key})
        return True
    if entered != "duplicate":
        # MinIO was away when the song ended; or a worker that was late has since told of older bytes, or of its start.
        songhash, error = await inbox.ended(upload.job)
        await tell(storage, upload, entered, songhash=songhash, error=error)
    return False


async def tell(storage: Storage, upload: Upload, state: str, *, songhash: str = "", error: str = "") -> None:
    """Say on the upload how its song ended; the next sweep does so where it does not work now."""
    try:
        await asyncio.to_thread(storage.tag, upload, state, songhash=songhash, error=error)
    # An edge: one upload that cannot be tagged, for whatever reason, must not hide those behind it.
    except Exception as trouble:
        _log.warning("the upload is not tagged yet: %s", trouble, extra={"key": upload.key})


def _next(uploads: Iterator[Tagged]) -> list[Tagged]:
    return list(islice(uploads, _BATCH))
