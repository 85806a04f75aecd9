"""How tracks go: while nobody works on the song, who would write its record once more."""

from contextlib import AbstractContextManager, suppress

import redis

from stems import lease, naming
from stems.errors import ObjectGone
from stems.index import Index
from stems.jobs import Jobs
from stems.record import Track
from stems.storage import Storage
from stems.tracks import line
from stems.tracks.intake import Intake

_LEASE_S = 10.0


class Removal:
    """Removes tracks; safe to share between threads."""

    def __init__(self, client: redis.Redis, storage: Storage, index: Index, intake: Intake) -> None:
        self._client, self._jobs = client, Jobs(client)
        self._storage, self._index, self._intake = storage, index, intake

    def held(self, songhash: str) -> AbstractContextManager[None]:
        """Hold a song: no worker reads or writes its record meanwhile. Raises InProgress while one does."""
        return lease.held(self._client, songhash, _LEASE_S)

    def call_off(self, track: Track) -> None:
        """Cancel what is about to separate the song of a track once more, which would bring it back."""
        job = naming.job_id(track.bucket, track.key, track.upload_etag)
        with suppress(ObjectGone):
            if self._jobs.get([job]):
                line.call_off(self._jobs, self._intake, job, track.key, track.upload_etag)

    def remove(self, track: Track, *, upload: bool = False) -> None:
        """Remove a track whose song is held, and its upload, too, or else say on that that it is removed."""
        self.call_off(track)
        self._storage.remove_track(track)
        with suppress(ObjectGone):
            found = self._intake.upload(track.key, track.upload_etag)
            if upload:
                self._intake.remove(found)
            else:
                self._storage.tag(found, "removed", songhash=track.songhash)
        self._index.forget(track.songhash)
