"""Orphans: stems in `output` that no record names, nor ever will. A sweep of that bucket removes them.

They are left by a worker that died between its stems and the record, where nobody needs the song any more: the upload
was removed, overwritten or cancelled before another worker came to it. Readers never see them, but they take space.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from stems import naming
from stems.config import Settings
from stems.storage import client, translated
from stems_relay.inbox import Inbox

# Longer than any delivery: until then, its worker may be about to write the record.
AGE_S = 3600.0
_OBJECT = re.compile(r"([0-9a-f]{64})-[a-z0-9_]+\.[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Orphan:
    """A song without a record, and its objects."""

    songhash: str
    objects: tuple[str, ...]


class Orphans:
    """Finds and removes them; the relay's user in MinIO may remove stems, and no record."""

    def __init__(self, settings: Settings) -> None:
        self._client = client(settings, settings.s3_endpoint)

    async def tidy(self, inbox: Inbox) -> int:
        """Remove what nobody works on; return the number of songs. Raises StorageUnavailable or a Redis error."""
        found, count = self._find(), 0
        while orphan := await asyncio.to_thread(next, found, None):
            # Whoever begins with this very song meanwhile is told to come again.
            if await inbox.hold(orphan.songhash):
                await asyncio.to_thread(self._remove, orphan)
                count += 1
        return count

    def _find(self) -> Iterator[Orphan]:
        old = datetime.now(UTC) - timedelta(seconds=AGE_S)
        with translated(f"the bucket {naming.OUTPUT_BUCKET}"):
            listing = self._client.list_objects(naming.OUTPUT_BUCKET)
            # In a listing, which is in order, all objects of a song stand together.
            for songhash, group in groupby(listing, key=lambda item: (item.object_name or "")[:64]):
                objects = list(group)
                names = tuple(item.object_name or "" for item in objects)
                young = any(item.last_modified is None or item.last_modified > old for item in objects)
                if not young and all(map(_OBJECT.fullmatch, names)):
                    yield Orphan(songhash, names)

    def _remove(self, orphan: Orphan) -> None:
        for name in orphan.objects:
            with translated(f"{naming.OUTPUT_BUCKET}/{name}"):
                self._client.remove_object(naming.OUTPUT_BUCKET, name)
