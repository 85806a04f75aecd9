"""What lies in the bucket of divided songs that nobody wants any more: workers remove it.

A job wants the parts of its plan from its first division to its end, a dead letter until it is dropped (WANTED). Two
uploads of the same bytes may want the same ones.
"""

import logging
from contextlib import suppress
from typing import Any

import redis

from stems import lease, naming
from stems.config import Settings
from stems.errors import InProgress, StateUnavailable, StorageUnavailable
from stems.jobs import Jobs
from stems.separate.shelf import Shelf
from stems.storage import Storage

_log = logging.getLogger(__name__)


class Leftovers:
    """Finds them by what Redis knows; of what it does not know, or has forgotten, nothing is removed: it expires."""

    def __init__(self, settings: Settings, storage: Storage, client: redis.Redis) -> None:
        self._storage, self._lease_s = storage, settings.lease_s
        self._redis: Any = client  # as in stems.jobs
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
            return self._jobs.fields(job, "state")[0] in {"cancelled", "gone", "dropped"}
        except StateUnavailable:
            return False

    def keep(self, shelf: Shelf) -> None:
        """Have what lies there stay though it was given up before; the caller holds the song's lease."""
        with suppress(redis.RedisError):
            self._redis.srem(naming.UNWANTED, _wish(shelf))

    def drop(self, shelf: Shelf, job: str) -> None:
        """Remove the parts of a job that wants them no more, unless somebody is at work on the song."""
        with suppress(InProgress), lease.held(self._redis, shelf.songhash, self._lease_s):
            self.clear(shelf, job)

    def clear(self, shelf: Shelf, job: str) -> None:
        """Remove the parts of a job, unless another job wants them; the caller holds the song's lease."""
        try:
            wishes, own = self._redis.hvals(naming.WANTED), self._redis.hget(naming.WANTED, job)
        except redis.RedisError:
            return
        if wishes.count(_wish(shelf)) == int(own == _wish(shelf)):
            shelf.clear()

    def tidy(self) -> None:
        """Remove the parts of jobs that ended where no worker was at hand."""
        try:
            for wish in self._redis.smembers(naming.UNWANTED):
                shelf = Shelf(self._storage, *wish.split())
                with suppress(InProgress), lease.held(self._redis, shelf.songhash, self._lease_s):
                    if self._redis.sismember(naming.UNWANTED, wish):
                        shelf.clear()
                        self.keep(shelf)
        except (redis.RedisError, StorageUnavailable) as error:
            _log.warning("parts that nobody wants are removed later: %s", error)


def _wish(shelf: Shelf) -> str:
    return f"{shelf.songhash} {shelf.id}"
