"""Parts of songs that nobody wants any more: whichever worker comes by removes them from the bucket."""

from contextlib import suppress
from typing import Any

import redis

from stems import lease, naming
from stems.config import Settings
from stems.errors import InProgress, StateUnavailable
from stems.jobs import Jobs
from stems.separate.shelf import Shelf
from stems.storage import Storage

_AT_A_TIME = 100


class Leftovers:
    """Finds them by what Redis knows, and removes them; what it has forgotten expires."""

    def __init__(self, settings: Settings, storage: Storage, client: redis.Redis) -> None:
        self._storage, self._redis, self._lease_s = storage, client, settings.lease_s
        self._jobs = Jobs(client)

    def of(self, job: str) -> Shelf | None:
        """Return where the parts of a song are, if it is known to be divided."""
        try:
            songhash, plan = self._jobs.fields(job, "songhash", "plan")
        except StateUnavailable:
            return None
        return Shelf(self._storage, songhash, plan) if songhash and plan else None

    def is_over(self, job: str) -> bool:
        """Tell whether nobody wants the song. One that failed may be tried again: its parts stay."""
        try:
            return self._jobs.fields(job, "state")[0] in {"cancelled", "gone"}
        except StateUnavailable:
            return False

    def drop(self, shelf: Shelf) -> None:
        """Remove the parts of a song that nobody wants any more, unless another upload of it is in work."""
        with suppress(InProgress), lease.held(self._redis, shelf.songhash, self._lease_s):
            shelf.clear()

    def tidy(self) -> None:
        """Remove those of songs that were given up while nobody was at work on them."""
        with suppress(redis.RedisError):
            client: Any = self._redis
            for wish in client.spop(naming.UNWANTED, _AT_A_TIME):
                self.drop(Shelf(self._storage, *wish.split()))
