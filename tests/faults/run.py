"""One fault's part in a schedule: what it strikes, with songs and chance of its own."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import songs
from tests.faults.stack import Stack

WORKERS, RELAYS = ("worker1", "worker2"), ("relay1", "relay2")


class Run:
    """What the fault `number` of a schedule sees: others, and the machine's pace, change nothing of its stream.

    `over`: no more is to come but by faults themselves; `only_swept` takes the uploads of which nobody will be told.
    """

    def __init__(
        self,
        stack: Stack,
        uploader: songs.Uploader,
        seed: int,
        number: int,
        over: threading.Event,
        only_swept: list[songs.Accepted],
    ) -> None:
        self.stack, self.number, self.over, self.only_swept = stack, number, over, only_swept
        self.random = random.Random(f"{seed}:{number}")
        self._uploader, self._seed, self._made = uploader, seed, 0

    def song(self, divided: bool | None = None) -> songs.Song:
        """Return the next song: nobody else has it. `divided`: whether it is long enough; None: one in four."""
        self._made += 1
        return songs.make(f"{self._seed}:{self.number}-{self._made}", divided)

    def put(self, name: str, song: songs.Song) -> songs.Accepted:
        """Upload under a name that is this fault's own, or overwrite what is there."""
        return self._uploader.put(f"{name}-{self.number}", song)

    def overwrite(self, key: str) -> None:
        """Overwrite an upload of this schedule, whosever it is, by another song."""
        self._uploader.put(key.removeprefix(self._uploader.prefix).removesuffix(".wav"), self.song())

    def remove(self, upload: songs.Accepted) -> None:
        """Remove an upload."""
        self._uploader.remove(upload)

    def is_ours(self, key: str) -> bool:
        """Tell whether this is the key of an upload of this schedule."""
        return key.startswith(self._uploader.prefix)


Strike = Callable[[Run], bool]


@dataclass(frozen=True)
class Fault:
    """`strike` tells whether it struck; `repeats`: how many more times than once it explains that a song is begun, or,
    in all, parts of it; `needs_disks`: small ones.
    """

    name: str
    strike: Strike
    repeats: int = 1
    needs_disks: bool = False
