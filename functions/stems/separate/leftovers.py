"""What lies in the bucket of divided songs that nobody wants any more: workers remove it.

A job wants the parts of its plan from their first byte to its end, a dead letter until it is dropped (WANTED); what no
job wants any more is noted (UNWANTED). Of what Redis has forgotten nothing is removed: it expires.
"""

import logging
from contextlib import suppress
from typing import Any

import redis

from stems import lease, moves, naming
from stems.config import Settings
from stems.errors import InProgress, StateUnavailable, StorageUnavailable
from stems.jobs import Jobs
from stems.separate.shelf import Shelf
from stems.storage import Storage

_log = logging.getLogger(__name__)


class Leftovers:
    """Knows who wants what, and removes what nobody does; safe to share between threads."""

    def __init__(self, settings: Settings, storage: Storage, client: redis.Redis) -> None:
        self._storage, self._lease_s = storage, settings.lease_s
        self._redis: Any = client  # as in stems.jobs
        self._jobs = Jobs(client)
        self._want, self._given_up, self._disowned = map(
            client.register_script, (moves.WANT, moves.GIVEN_UP, moves.DISOWNED)
        )

    def of(self, job: str) -> Shelf | None:
        """Return where the parts of a song are, if it is known to be divided."""
        try:
            songhash, plan = self._jobs.fields(job, "songhash", "plan")
        except StateUnavailable:
            return None
        return Shelf(self._storage, songhash, plan) if songhash and plan else None

    def want(self, shelf: Shelf, job: str) -> None:
        """Note that a job wants what lies there, or is put there; unless it has ended meanwhile."""
        with suppress(redis.RedisError):
            self._want(keys=[naming.job_key(job)], args=[job, _wish(shelf)])

    def give_up(self, job: str) -> None:
        """Remove what a job wanted, unless another one wants it: it is done, was cancelled, or its upload is gone."""
        with suppress(redis.RedisError):
            self._given_up(args=[job])
        self.tidy()

    def disown(self, shelf: Shelf) -> None:
        """Remove what lies there, unless a job wants it."""
        with suppress(redis.RedisError):
            self._disowned(args=[_wish(shelf)])
        self.tidy()

    def tidy(self) -> None:
        """Remove what nobody wants any more, but of songs that somebody is at work on: the next worker does."""
        try:
            for wish in self._redis.smembers(naming.UNWANTED):
                shelf = Shelf(self._storage, *wish.split())
                with suppress(InProgress), lease.held(self._redis, shelf.songhash, self._lease_s, needed=True):
                    if self._redis.sismember(naming.UNWANTED, wish):  # it may be wanted again by now
                        shelf.clear()
                        self._redis.srem(naming.UNWANTED, wish)
        except (redis.RedisError, StorageUnavailable) as error:
            _log.warning("parts that nobody wants are removed later: %s", error)


def _wish(shelf: Shelf) -> str:
    return f"{shelf.songhash} {shelf.id}"
