"""The line of songs in Redis, as one relay sees it: read notifications, take jobs, enter the answers."""

import hashlib
import json
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import redis.asyncio as aredis

from stems import naming
from stems.contract import Upload, is_new_object, records
from stems.errors import BadNotification
from stems.jobs import FINISHED_TTL_S, now_ms
from stems_relay import scripts

# How long BLMOVE waits; the client's own timeout must be longer.
_BLOCK_S = 2.0
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """A job to deliver. `attempts` counts this delivery; `since_ms` is when the job entered the line."""

    upload: Upload
    attempts: int
    tries: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Read:
    """What became of some payloads: jobs that are new, duplicates, other events, unreadable ones."""

    new: int = 0
    duplicate: int = 0
    other: int = 0
    unreadable: int = 0

    def __add__(self, other: "Read") -> "Read":
        return Read(
            self.new + other.new,
            self.duplicate + other.duplicate,
            self.other + other.other,
            self.unreadable + other.unreadable,
        )


class Inbox:
    """The line as the relay `name` sees it. Redis errors pass through: the relay's loops wait and go on."""

    def __init__(self, redis_url: str, name: str) -> None:
        self.name = name
        # Payloads are kept as the bytes they are; scripts compare them.
        self._redis: Any = aredis.Redis.from_url(redis_url, socket_timeout=_BLOCK_S + 5, socket_connect_timeout=2)
        self._processing = naming.processing_key(name)
        self._delivering = naming.delivering_key(name)
        self._claim = self._redis.register_script(scripts.CLAIM)
        self._take = self._redis.register_script(scripts.TAKE)
        self._settle = self._redis.register_script(scripts.SETTLE)
        self._bury = self._redis.register_script(scripts.BURY)
        self._recover = self._redis.register_script(scripts.RECOVER)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def read(self) -> Read:
        """Wait up to two seconds for notifications and enter their jobs in the line.

        A payload leaves the relay's own list only after its jobs stand in line. Left-overs of a call whose answer was
        lost on the way are read first.
        """
        payloads = await self._redis.lrange(self._processing, 0, _BATCH - 1)
        if not payloads:
            first = await self._redis.blmove(naming.NOTIFICATIONS, self._processing, _BLOCK_S, "LEFT", "RIGHT")
            if first is None:
                return Read()
            pipe = self._redis.pipeline(transaction=False)
            for _ in range(_BATCH - 1):
                pipe.lmove(naming.NOTIFICATIONS, self._processing, "LEFT", "RIGHT")
            payloads = [first, *(payload for payload in await pipe.execute() if payload is not None)]
        total = Read()
        for payload in payloads:
            total += await self._read_one(payload)
        return total

    async def _read_one(self, payload: bytes) -> Read:
        try:
            found = records(payload)
            uploads = [Upload.from_record(record) for record in found if is_new_object(record)]
        except BadNotification as error:
            identity = hashlib.sha256(payload).hexdigest()[:32]
            keys = [self._processing, naming.job_key(identity), naming.DEAD]
            await self._bury(keys=keys, args=[payload, identity, now_ms(), str(error)])
            return Read(unreadable=1)
        results = [await self.claim(upload) for upload in uploads]
        await self._redis.lrem(self._processing, 1, payload)
        new = sum(result != "duplicate" for result in results)
        return Read(new=new, duplicate=len(results) - new, other=len(found) - len(uploads))

    async def claim(self, upload: Upload) -> str:
        """Enter an upload in the line; return `new`, `again` (it runs now and will run again) or `duplicate`."""
        keys = [naming.job_key(upload.job), naming.WAITING, naming.DEAD]
        record = json.dumps(upload.record, ensure_ascii=False)
        args: list[Any] = [upload.job, upload.uploaded_ms, now_ms(), upload.bucket, upload.key, upload.etag, record]
        return str((await self._claim(keys=keys, args=args)).decode())

    async def take(self) -> Taken | float | None:
        """Take the next job; else return the seconds until one is due, or None when nothing waits."""
        now = now_ms()
        answer = await self._take(keys=[naming.WAITING, naming.ATTEMPTS, self._delivering], args=[now, self.name])
        if not answer:
            return None
        if len(answer) == 1:
            return max(0.0, (float(answer[0]) - now) / 1000)
        _id, attempts, *pairs = answer
        data = {name.decode(): value.decode() for name, value in zip(pairs[::2], pairs[1::2], strict=True)}
        upload = Upload.from_record(json.loads(data["record"]))
        return Taken(upload, int(attempts), int(data["tries"]), int(data.get("since_ms", now)))

    async def settle(
        self, taken: Taken, state: str, *, error: str = "", due_ms: int | None = None, refund: bool = False
    ) -> str:
        """Enter the answer to a delivery: `done`, `gone`, `failed`, or `waiting` again from `due_ms`.

        `refund`: the song was not tried, the attempt does not count. Returns what was entered: `waiting` when the
        song was uploaded again meanwhile, `stale` when another relay has taken the job over.
        """
        return await self._move(taken.upload.job, state, now_ms() if due_ms is None else due_ms, refund, error)

    async def _move(self, job: str, state: str, due_ms: int, refund: bool, error: str) -> str:
        keys = [naming.job_key(job), self._delivering, naming.WAITING, naming.ATTEMPTS, naming.DEAD]
        args: list[Any] = [job, now_ms(), state, due_ms, int(refund), FINISHED_TTL_S, error]
        return str((await self._settle(keys=keys, args=args)).decode())

    async def state(self, job: str) -> tuple[str, str]:
        """Return state and error of a job, both empty when it is not known."""
        state, error = await self._redis.hmget(naming.job_key(job), "state", "error")
        return (state or b"").decode(), (error or b"").decode()

    async def heartbeat(self) -> None:
        """Say that this relay lives."""
        await self._redis.zadd(naming.RELAYS, {self.name: now_ms()})

    async def recover(self, silent_s: float) -> int:
        """Take back what relays hold that have been silent for so long; return how much it was."""
        keys = [naming.RELAYS, naming.NOTIFICATIONS, naming.WAITING]
        now = now_ms()
        return int(await self._recover(keys=keys, args=[now - int(silent_s * 1000), now]))

    async def delivering(self) -> set[str]:
        """Return the jobs that Redis holds as being delivered by this relay."""
        return {job.decode() for job in await self._redis.smembers(self._delivering)}

    async def put_back(self, job: str) -> None:
        """Put a job that this relay took, and is not delivering, back in line; the attempt does not count."""
        await self._move(job, "waiting", now_ms(), refund=True, error="")

    async def sign_off(self) -> None:
        """Hand back everything this relay holds, at once."""
        for job in await self.delivering():
            await self.put_back(job)
        await self._redis.zadd(naming.RELAYS, {self.name: 0})
        await self.recover(silent_s=now_ms() / 1000 - 1)

    async def sweep_turn(self, every_s: float) -> bool:
        """Tell whether it is this relay's turn to sweep: one relay does, once in `every_s`."""
        answer: Awaitable[Any] = self._redis.set(naming.SWEEP_LOCK, self.name, nx=True, px=max(1, int(every_s * 1000)))
        return bool(await answer)
