"""The jobs in Redis: what waits, runs and failed. Everything here can be rebuilt from the buckets.

A job is a hash (`stems:job:<id>`); where it stands in line is its membership of `stems:waiting`, of one relay's
`stems:delivering:<relay>` or of `stems:dead`. Changes that touch several keys are Lua scripts, so that a process that
dies leaves all of them done or none.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from stems import announced, contract, moves, naming, paging
from stems.config import Settings
from stems.errors import StateUnavailable, UnknownJob, UnknownTrack

# A finished job is kept this long, to know a late second announcement of its upload.
FINISHED_TTL_S = 24 * 3600
# A job whose notification does not come is entered by a sweep.
_EXPECTED_TTL_S = 3600
_ANNOUNCED = 1000  # so many notifications are looked through for one job
_DEAD = tuple(dead for _, dead in naming.LINES.values())


@dataclass(frozen=True, slots=True)
class Job:
    """One job as people see it. Times in milliseconds since 1970; `progress` from 0 to 1; `left_s`: seconds, by
    its worker's word at `updated_ms`, None: not told; `position` in the line: 1 is next, None: stands in none."""

    id: str
    state: str
    bucket: str
    key: str
    etag: str
    uploaded_ms: int
    progress: float
    songhash: str
    error: str
    attempts: int
    updated_ms: int
    started_ms: int = 0
    left_s: float | None = None
    position: int | None = None

    @property
    def name(self) -> str:
        """What people call the song."""
        return naming.song_name(self.key) if self.key else "(unreadable notification)"

    @property
    def kind(self) -> str:
        """What it is: a song, or what is said of one to others, a reply or a callback (`naming.LINES`)."""
        return naming.kind(self.id)

    @classmethod
    def from_hash(
        cls, job: str, data: Mapping[str, str], attempts: str | None = None, rank: int | None = None
    ) -> "Job":
        """Read a job's hash."""
        return cls(
            id=job,
            state=data.get("state", "waiting"),
            bucket=data.get("bucket", ""),
            key=data.get("key", ""),
            etag=data.get("etag", ""),
            uploaded_ms=int(data.get("uploaded_ms", 0)),
            progress=float(data.get("progress", 0)),
            songhash=data.get("songhash", ""),
            error=data.get("error", ""),
            attempts=int(attempts or data.get("attempts") or 0),
            updated_ms=int(data.get("updated_ms", 0)),
            started_ms=int(data.get("started_ms", 0)),
            left_s=float(data["left_s"]) if data.get("left_s") else None,
            position=None if rank is None else rank + 1,
        )


@dataclass(frozen=True, slots=True)
class QueueView:
    """What stands in line. The numbers count all; the lists are cut at a limit."""

    waiting: int
    running: int
    failed: int
    waiting_jobs: tuple[Job, ...]
    running_jobs: tuple[Job, ...]
    failed_jobs: tuple[Job, ...]


def connect(settings: Settings) -> redis.Redis:
    """Make a client of the Redis of the settings; nothing is sent yet."""
    return redis.Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        encoding_errors="backslashreplace",  # anybody may write into the list of notifications
        socket_timeout=5,
        socket_connect_timeout=2,
        health_check_interval=30,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turn the Redis client's errors into StateUnavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise StateUnavailable(f"Redis does not answer: {error}") from error


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Jobs:
    """The jobs, for everybody but the relay (which moves them: stems_relay.inbox)."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client  # redis-py's types do not know of decode_responses
        self._update = client.register_script(moves.UPDATE)
        self._begin = client.register_script(moves.BEGIN)
        self._part = client.register_script(moves.PART)
        self._retry = client.register_script(moves.RETRY)
        self._drop = client.register_script(moves.DROP)
        self._cancel = client.register_script(moves.CANCEL)
        self._expect = client.register_script(moves.EXPECT)

    def begin(self, job: str) -> bool:
        """Say that a worker has a song now. Returns whether the job was cancelled."""
        with translated():
            return bool(self._begin(keys=[naming.job_key(job)], args=[job, now_ms()]))

    def update(self, job: str, **values: str | int | float) -> bool:
        """Set fields of a job, if there still is one: an expired one must not come back as a fragment.

        Returns whether the job was cancelled: then nothing is set. Of a part, only its progress is told, as the song's.
        """
        if naming.kind(job) == naming.PART:
            song = naming.song_of_part(job)
            with translated():
                args = [job, values["progress"], now_ms(), song]
                return bool(self._part(keys=[naming.job_key(song), naming.parts_key(song)], args=args))
        fields = {**values, "updated_ms": now_ms()}
        with translated():
            args = [job, *(item for pair in fields.items() for item in pair)]
            return bool(self._update(keys=[naming.job_key(job)], args=args))

    def fields(self, job: str, *names: str) -> list[str | None]:
        """Return fields of a job; None for each that it has not."""
        with translated():
            return list(self._redis.hmget(naming.job_key(job), names))

    def get(self, jobs: Iterable[str]) -> list[Job]:
        """Return those of these jobs that are known, each with its position in the line."""
        with translated():
            return self._load(list(jobs))

    def find(self, job: str) -> Job:
        """Return a job, also one that is announced and not yet entered. Raises UnknownJob."""
        found = self.get([job]) or [each for each in self._announced() if each.id == job]
        if not found:
            raise UnknownJob(f"no job {job}: it never was, or ended more than {FINISHED_TTL_S // 3600} hours ago")
        return found[0]

    def _announced(self) -> list[Job]:
        with translated():
            return list(_unread(self._redis.lrange(naming.NOTIFICATIONS, 0, _ANNOUNCED - 1)))

    def expect(self, upload: contract.Upload) -> None:
        """Make a job of an upload whose notification is on its way: it is known from now on."""
        keys = [naming.job_key(upload.job), naming.WAITING, naming.DEAD]
        args = [upload.job, _EXPECTED_TTL_S, now_ms(), *_identity(upload)]
        with translated():
            self._expect(keys=keys, args=args)

    def cancel(self, job: str, upload: contract.Upload | None = None) -> str | None:
        """Cancel a job that waits or runs; a running one stops by itself at the next segment.

        Returns `cancelled`, the state of a job that had ended before, `` for one that only `upload`, from the bucket,
        makes cancellable, or None when no such job is known. The upload must be tagged, too: the sweep goes by that.
        """
        keys = [naming.job_key(job), naming.WAITING, naming.ATTEMPTS]
        args = [job, FINISHED_TTL_S, now_ms(), *(_identity(upload) if upload else [])]
        with translated():
            state: str | None = self._cancel(keys=keys, args=args)
        return state

    def pace_s(self) -> float | None:
        """Return the seconds that a song has taken of late; None where none was separated yet."""
        with translated():
            text = self._redis.get(naming.PACE)
        return float(text) if text else None

    def running(self) -> list[Job]:
        """Return the songs that are being delivered, and those whose parts are on their way."""
        with translated():
            relays = self._redis.zrange(naming.RELAYS, 0, -1)
            pipe = self._redis.pipeline(transaction=False)
            pipe.zrange(naming.DIVIDED, 0, -1)
            for relay in relays:
                pipe.smembers(naming.delivering_key(relay))
            return self._load(_songs(pipe.execute()))

    def view(self, limit: int = 100) -> QueueView:
        """Return what waits (oldest first), runs and failed (newest first), each list cut at `limit`."""
        with translated():
            relays = self._redis.zrange(naming.RELAYS, 0, -1)
            pipe = self._redis.pipeline()
            pipe.zcard(naming.WAITING).zcard(naming.DEAD)
            pipe.zrange(naming.WAITING, 0, limit - 1)
            pipe.zrevrange(naming.DEAD, 0, limit - 1)
            pipe.lrange(naming.NOTIFICATIONS, 0, limit - 1)
            pipe.zrange(naming.DIVIDED, 0, -1)
            for relay in relays:
                pipe.smembers(naming.delivering_key(relay))
            waiting, failed, waiting_ids, failed_ids, payloads, *delivering = pipe.execute()
            running_ids = _songs(delivering)
            found = {job.id: job for job in self._load([*waiting_ids, *running_ids[:limit], *failed_ids])}
        unread_jobs = [job for job in _unread(payloads) if job.id not in found]
        return QueueView(
            waiting=waiting + len(unread_jobs),
            running=len(running_ids),
            failed=failed,
            waiting_jobs=tuple([found[i] for i in waiting_ids if i in found] + unread_jobs)[:limit],
            running_jobs=tuple(found[i] for i in running_ids[:limit] if i in found),
            failed_jobs=tuple(found[i] for i in failed_ids if i in found),
        )

    def page(
        self, state: str, limit: int, cursor: str | None = None, since_ms: int | None = None
    ) -> tuple[list[Job], str | None]:
        """Return `limit` songs that are `waiting`, `running` or `failed`, and the cursor of what follows them.

        The latest first, by the time that they are due at, were uploaded at, failed at; none before `since_ms`. Raises
        ValueError for a cursor that this list did not make.
        """
        if state == "running":
            times = [(job.id, float(job.uploaded_ms)) for job in self.running()]
            found = paging.among(times, cursor, limit + 1, since_ms)
        else:
            key = naming.WAITING if state == "waiting" else naming.DEAD
            with translated():
                found = paging.after(self._redis, key, cursor, limit + 1, since_ms)
        jobs = self.get(job for job, _ in found[:limit])
        return jobs, paging.to_cursor(found[limit - 1]) if len(found) > limit else None

    def failed(self) -> list[Job]:
        """Return all dead letters: songs, replies, callbacks, each newest first."""
        with translated():
            return self._load([job for dead in _DEAD for job in self._redis.zrevrange(dead, 0, -1)])

    def dead_letter(self, prefix: str) -> tuple[Job, Mapping[str, str]]:
        """Return the dead letter whose id starts with `prefix`, and all that is stored of it."""
        with translated():
            dead = [job for line in _DEAD for job in self._redis.zrange(line, 0, -1)]
            found = [job for job in dead if job.startswith(prefix)]
            if len(found) != 1:
                raise UnknownTrack(f"{len(found)} dead letters have an id that starts with {prefix!r}")
            data = self._redis.hgetall(naming.job_key(found[0]))
        return Job.from_hash(found[0], data, None), data

    def retry(self, job: str) -> bool:
        """Put a dead letter back in line, with its attempts forgotten. False if it is not dead."""
        line, dead = naming.lines(job)
        keys = [dead, naming.ATTEMPTS, line, naming.job_key(job), naming.NOTIFICATIONS]
        with translated():
            return bool(self._retry(keys=keys, args=[job, now_ms()]))

    def drop(self, job: str) -> bool:
        """Forget a dead letter; its upload must be tagged, too, as the sweep goes by that. False if it is not dead."""
        with translated():
            return bool(self._drop(keys=[naming.lines(job)[1], naming.job_key(job)], args=[job, FINISHED_TTL_S]))

    def _load(self, jobs: list[str]) -> list[Job]:
        pipe = self._redis.pipeline(transaction=False)
        for job in jobs:
            pipe.hgetall(naming.job_key(job)).hget(naming.ATTEMPTS, job).zrank(naming.WAITING, job)
        answers: list[Any] = pipe.execute()
        found = zip(jobs, answers[::3], answers[1::3], answers[2::3], strict=True)
        return [Job.from_hash(job, data, attempts, rank) for job, data, attempts, rank in found if data]


def _identity(upload: contract.Upload) -> list[str | int]:
    return [upload.uploaded_ms, upload.bucket, upload.key, upload.etag]


def _songs(found: Iterable[Iterable[str]]) -> list[str]:
    """Return the songs among the ids found; what else is on its way has ids of another kind."""
    return sorted(job for job in set().union(*found) if naming.kind(job) == naming.SONGS)


def _unread(payloads: list[str]) -> Iterator[Job]:
    """Read the jobs that MinIO has announced and no relay has taken yet, each once."""
    for upload in announced.uploads(payloads):
        data = {"bucket": upload.bucket, "key": upload.key, "etag": upload.etag}
        yield Job.from_hash(upload.job, {**data, "uploaded_ms": str(upload.uploaded_ms)}, None)
