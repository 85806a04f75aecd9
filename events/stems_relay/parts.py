"""The moves of divided songs and their parts, as the relay makes them."""

import json
from collections.abc import Sequence
from typing import Any

from stems import naming
from stems.contract import Upload
from stems.division import Divided
from stems.reply import Reply
from stems_relay import part_scripts
from stems_relay.callback import Callback


class Parts:
    """Moves parts for the relay whose deliveries are in the set `delivering`."""

    def __init__(self, client: Any, delivering: str) -> None:
        self._delivering = delivering
        self._divide = client.register_script(part_scripts.DIVIDE)
        self._settle = client.register_script(part_scripts.SETTLE_PART)

    async def divide(self, upload: Upload, delivery: str, divided: Divided, most: int) -> str:
        """End a song's delivery with its parts in line; return what DIVIDE says. `most`: how often a song may be."""
        job = upload.job
        keys = [naming.job_key(job), self._delivering, naming.PARTS, naming.DIVIDED, naming.ATTEMPTS]
        keys += [naming.parts_key(job)]
        args: list[Any] = [job, delivery, divided.songhash, divided.plan, divided.begin, divided.end, most]
        for part, place in zip(divided.wanted(upload), divided.parts, strict=True):
            key, record = part.key.encode(errors="replace"), json.dumps(part.record)
            args += [part.job, key, record, int(1000 * place.place_s)]
        return str((await self._divide(keys=keys, args=args)).decode())

    async def settle(
        self,
        part: str,
        delivery: str,
        to: str,
        delay_ms: int | str,
        refund: bool,
        error: str,
        news: Sequence[Reply | Callback],
    ) -> str:
        """Enter the answer to the delivery of a part; return what SETTLE_PART says. `delay_ms`: empty for its place."""
        song = naming.song_of_part(part)
        keys = [naming.job_key(part), self._delivering, naming.PARTS, naming.PARTS_LATER, naming.ATTEMPTS, naming.DEAD]
        keys += [naming.job_key(song), naming.parts_key(song)]
        args: list[Any] = [part, delivery, to, delay_ms, int(refund), error, song]
        for each in news:
            keys += [naming.job_key(each.job), naming.lines(each.job)[0]]
            args += [each.job, each.key.encode(errors="replace"), json.dumps(each.record)]
        return str((await self._settle(keys=keys, args=args)).decode())
