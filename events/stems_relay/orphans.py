"""Orphans: stems in `output` that no record names, nor ever will. A sweep of that bucket removes them.

They are left by a worker that died between its stems and the record, where nobody needs the song any more: the upload
was removed, overwritten or cancelled before another worker came to it; and by a record that another one replaced, of
another model, whose stems had other names. Readers never see them, but they take space.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby

from minio.datatypes import Object
from minio.deleteobjects import DeleteObject

from stems import naming
from stems.config import Settings
from stems.errors import StorageUnavailable
from stems.options import FORMATS
from stems.storage import client, translated
from stems_relay.inbox import Inbox

# Longer than any delivery: until then, its worker may be about to write the record.
AGE_S = 3600.0
# Removing takes 30 s at the most: half of it.
_HOLD_S = 60.0
# Of ours: what others put beside a song is theirs.
_OBJECT = re.compile(rf"[0-9a-f]{{64}}-([a-z0-9_]+\.({'|'.join(FORMATS)})|peaks\.json)")
_BUCKET = naming.OUTPUT_BUCKET


class Orphans:
    """Finds and removes them; the relay's user in MinIO may remove stems, and no record."""

    def __init__(self, settings: Settings) -> None:
        self._client = client(settings, settings.s3_endpoint)

    async def tidy(self, inbox: Inbox) -> int:
        """Remove what nobody works on; return the number of songs. Raises StorageUnavailable or a Redis error."""
        found, count = self._find(), 0
        while songhash := await asyncio.to_thread(next, found, None):
            until = time.monotonic() + _HOLD_S / 2
            # Whoever begins with this very song meanwhile is told to come again.
            if await inbox.hold(songhash, _HOLD_S):
                count += await asyncio.to_thread(self._remove, songhash, until)
                await inbox.let_go(songhash)
        return count

    def _find(self) -> Iterator[str]:
        """Yield the songs that have orphans."""
        # In a listing, which is in order, all objects of a song stand together.
        for songhash, objects in groupby(self._list(), key=lambda item: (item.object_name or "")[:64]):
            if _orphans(objects):
                yield songhash

    def _remove(self, songhash: str, until: float) -> bool:
        """Remove those of a song, looking anew: since it was found, somebody may have made it. Not after `until`."""
        names = _orphans(self._list(songhash))
        if not names or time.monotonic() > until:
            return False
        with translated(f"the bucket {_BUCKET}"):
            for error in self._client.remove_objects(_BUCKET, map(DeleteObject, names)):
                raise StorageUnavailable(f"{_BUCKET}/{error.name}: MinIO answers {error.code}")
        return True

    def _list(self, prefix: str = "") -> Iterator[Object]:
        with translated(f"the bucket {_BUCKET}"):
            yield from self._client.list_objects(_BUCKET, prefix, include_user_meta=True)


def _orphans(objects: Iterable[Object]) -> list[str]:
    """Return the names of those among the objects of a song; none while one of them is young."""
    there = {item.object_name or "": item for item in objects}
    names = {name for name in there if _OBJECT.fullmatch(name)}
    for name in there:
        if songhash := naming.songhash_of_record(name):
            known = {key.lower(): value for key, value in (there[name].metadata or {}).items()}
            if naming.NAMED not in known:  # nothing tells what belongs to it
                return []
            names -= {f"{songhash}{each}" for each in known[naming.NAMED].split()}
    old = datetime.now(UTC) - timedelta(seconds=AGE_S)
    young = any((at := there[name].last_modified) is None or at > old for name in names)
    return [] if young else sorted(names)
