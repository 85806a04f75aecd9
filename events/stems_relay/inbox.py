"""The lines in Redis (songs, replies, callbacks) as one relay sees them: read notifications, take, enter answers."""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as aredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stems import lease, naming
from stems.contract import Upload, is_new_object, records
from stems.division import Divided, Wanted
from stems.errors import BadNotification
from stems.jobs import FINISHED_TTL_S
from stems.reply import Reply
from stems_relay import part_scripts, scripts
from stems_relay.batch import Batch, Call
from stems_relay.callback import Callback
from stems_relay.parts import Parts

# How long BLMOVE waits; the client's own timeout must be longer.
_BLOCK_S = 2.0
_BATCH = 100
_CONNECTIONS = 16  # fewer than songs may be in flight: who finds none free waits
# A notification has some kilobytes. What is longer is none, and costs the memory of all who look at the dead letters.
_PAYLOAD_LIMIT = 1_000_000
DELAY_LIMIT_S = 3600.0
# So many dead callbacks are kept: any uploader can name receivers that do not exist.
_DEAD_CALLBACKS = 1000

Message = Upload | Wanted | Reply | Callback


@dataclass(frozen=True, slots=True)
class Taken:
    """A job to deliver. `attempts` counts this delivery, `tries` also those that were none. `busy`: how many songs
    and parts all relays deliver now; None while others are due.
    """

    message: Message
    delivery: str
    attempts: int
    tries: int
    busy: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What became of some payloads: uploads that are new or known, other events, unreadable payloads."""

    new: int = 0
    duplicate: int = 0
    other: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Payload:
    """A payload, read: a call of CLAIM for each of its uploads, and what is wrong with the rest."""

    raw: bytes
    claims: list[Call]
    other: int = 0
    error: str = ""


class Inbox:
    """The line as the relay `name` sees it. Redis errors pass through: the relay's loops wait and go on."""

    def __init__(self, redis_url: str, name: str) -> None:
        self.name = name
        pool = aredis.BlockingConnectionPool.from_url(
            redis_url,
            max_connections=_CONNECTIONS,
            timeout=_BLOCK_S + 5,
            socket_timeout=_BLOCK_S + 5,
            socket_connect_timeout=2,
            # Once: a pooled connection is stale after Redis was restarted. The rest is up to the relay's loops.
            retry=Retry(NoBackoff(), 1),
        )
        # Payloads are kept as the bytes they are; scripts compare them.
        self._redis: Any = aredis.Redis.from_pool(pool)
        self._processing = naming.processing_key(name)
        self._delivering = naming.delivering_key(name)
        self._fetch = self._redis.register_script(scripts.FETCH)
        self._claim = Batch(self._redis, scripts.CLAIM)
        self._exhume = self._redis.register_script(scripts.EXHUME)
        self._take = self._redis.register_script(scripts.TAKE)
        self._settle = Batch(self._redis, scripts.SETTLE)
        self._bury = self._redis.register_script(scripts.BURY)
        self._beat = self._redis.register_script(scripts.BEAT)
        self._let_go = self._redis.register_script(lease.RELEASE)
        self._parts = Parts(self._redis, self._delivering)

    async def close(self) -> None:
        """Close the connections."""
        await self._claim.close()
        await self._settle.close()
        await self._redis.aclose()

    async def read(self) -> Read:
        """Enter the jobs of waiting notifications in the line; with none there, wait up to two seconds for some.

        A payload leaves the relay's own list only after its jobs stand in line.
        """
        keys = [naming.NOTIFICATIONS, self._processing, naming.RELAYS]
        raw = await self._fetch(keys=keys, args=[self.name, _BATCH])
        if not raw:
            # From the head to the head: waits and takes nothing, so that nothing is lost if we die meanwhile.
            await self._redis.blmove(naming.NOTIFICATIONS, naming.NOTIFICATIONS, _BLOCK_S, "LEFT", "LEFT")
            return Read()
        payloads = [_parse(each) for each in raw]
        answers = await self._claim.run_all([claim for payload in payloads for claim in payload.claims])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        unreadable = [payload for payload in payloads if payload.error]
        for payload in unreadable:
            identity = hashlib.sha256(payload.raw).hexdigest()[:32]
            text = payload.raw[:_PAYLOAD_LIMIT].decode(errors="backslashreplace")
            await self._bury(keys=[naming.job_key(identity), naming.DEAD], args=[identity, payload.error, text])
        # All that FETCH gave, and nothing else: it gives no more before the list is empty.
        await self._redis.ltrim(self._processing, len(raw), -1)
        new = sum(answer in {b"new", b"again"} for answer in answers)
        return Read(new, len(answers) - new, sum(each.other for each in payloads), len(unreadable))

    async def claim(self, upload: Upload) -> str:
        """Enter an upload in the line, if it is new there; return what CLAIM says."""
        return str((await self._claim.run(_claim(upload))).decode())

    async def exhume(self, upload: Upload, error: str) -> None:
        """Make the upload a dead letter again if nothing is known of it."""
        args: list[Any] = [*_claim(upload).args, error]
        await self._exhume(keys=[naming.job_key(upload.job), naming.DEAD], args=args)

    async def take(self, line: str = naming.WAITING, count: int = 1) -> list[Taken] | float | None:
        """Take the next jobs of a line, `count` at most; else return the seconds until one is due, or None when nothing
        waits."""
        keys = [line, naming.ATTEMPTS, self._delivering, naming.RELAYS]
        keys += [naming.PARTS, naming.PARTS_LATER, naming.PASSED] if line == naming.WAITING else []
        args: list[Any] = [self.name, secrets.token_hex(8), int(DELAY_LIMIT_S * 1000)]
        args += [min(count, _BATCH), part_scripts.TURN]
        answer = await self._take(keys=keys, args=args)
        if not isinstance(answer, list):
            return None if answer is None else answer / 1000
        busy, taken = answer[0] if answer[0] >= 0 else None, []
        for identity, token, attempts, tries, record in answer[1:]:
            job, delivery = identity.decode(), token.decode()
            try:
                taken.append(Taken(_message(job, json.loads(record)), delivery, attempts, tries, busy))
            except (ValueError, BadNotification) as error:
                await self._move(job, delivery, "failed", error=f"its record in Redis is damaged: {error}")
        return taken

    async def settle(
        self,
        taken: Taken,
        state: str,
        *,
        error: str = "",
        delay_s: float | None = None,
        refund: bool = False,
        news: Sequence[Reply | Callback] = (),
    ) -> str:
        """Enter the answer to a delivery: `done`, `gone`, `failed`, or `waiting` again.

        `delay_s`: due so much later; None: in its old place. `refund`: the song was not tried, the attempt does not
        count. `news` enter their lines. Returns what was entered: `waiting` when the song was uploaded again meanwhile,
        `cancelled` when it was cancelled, `stale` when the job has been taken over. May be repeated until it returns.
        """
        return await self._move(
            taken.message.job, taken.delivery, state, error=error, delay_s=delay_s, refund=refund, news=news
        )

    async def divide(self, taken: Taken, divided: Divided, most: int) -> str:
        """Enter that a song goes on in parts, which enter the line; return `divided`, or what it is instead.

        `again`, `cancelled`: settle it as a song that waits. `often`: it was divided `most` times before.
        """
        assert isinstance(taken.message, Upload)
        return await self._parts.divide(taken.message, taken.delivery, divided, most)

    async def _move(
        self,
        job: str,
        delivery: str,
        to: str,
        *,
        error: str = "",
        delay_s: float | None = None,
        refund: bool = False,
        news: Sequence[Reply | Callback] = (),
    ) -> str:
        line, dead = naming.lines(job)
        # What was said of a song says nothing more; a song is known for a while.
        ttl_s = FINISHED_TTL_S if naming.kind(job) == naming.SONGS else 0
        kept = _DEAD_CALLBACKS if dead == naming.DEAD_CALLBACKS else 0
        delay_ms = "" if delay_s is None else int(1000 * min(delay_s, DELAY_LIMIT_S))
        if naming.kind(job) == naming.PART:
            return await self._parts.settle(job, delivery, to, delay_ms=delay_ms, refund=refund, error=error, news=news)
        keys = [naming.job_key(job), self._delivering, line, naming.ATTEMPTS, dead, naming.PACE]
        args: list[Any] = [job, delivery, to, delay_ms, int(refund), ttl_s, error, kept]
        for each in news:
            keys += [naming.job_key(each.job), naming.lines(each.job)[0]]
            args += [each.job, each.key.encode(errors="replace"), json.dumps(each.record)]
        return str((await self._settle.run(Call(keys, args))).decode())

    async def ended(self, job: str) -> tuple[str, str]:
        """Return the song hash of a job that has ended, and what is wrong with it; empty where nothing is known."""
        songhash, error = await self._redis.hmget(naming.job_key(job), "songhash", "error")
        return (songhash or b"").decode(), (error or b"").decode()

    async def heartbeat(self, silent_s: float) -> int:
        """Say that this relay lives; take back what others hold that were silent for so long, and return how much."""
        return await self._say(silent_s, alive=True)

    async def sign_off(self) -> None:
        """Hand back everything this relay holds, at once."""
        await self._say(DELAY_LIMIT_S, alive=False)

    async def _say(self, silent_s: float, *, alive: bool) -> int:
        keys = [naming.RELAYS, naming.NOTIFICATIONS, naming.WAITING, naming.ATTEMPTS]
        keys += [naming.REPLIES, naming.CALLBACKS, naming.PARTS]
        return int(await self._beat(keys=keys, args=[self.name, int(silent_s * 1000), int(alive), FINISHED_TTL_S]))

    async def delivering(self) -> set[str]:
        """Return the jobs that Redis holds as being delivered by this relay."""
        return {job.decode() for job in await self._redis.smembers(self._delivering)}

    async def put_back(self, job: str) -> None:
        """Put a job that this relay took, and is not delivering, back in line; the attempt does not count."""
        await self._move(job, "", "waiting", refund=True)

    async def sweep_turn(self, every_s: float) -> bool:
        """Tell whether it is this relay's turn to sweep: one relay does, once in `every_s`."""
        answer: Awaitable[Any] = self._redis.set(naming.SWEEP_LOCK, self.name, nx=True, px=max(1, int(every_s * 1000)))
        return bool(await answer)

    async def hold(self, songhash: str, seconds: float) -> bool:
        """Take the lease on a song for so long; False when somebody works on the song."""
        key = naming.lease_key(songhash)
        answer: Awaitable[Any] = self._redis.set(key, self.name, nx=True, px=int(seconds * 1000))
        return bool(await answer)

    async def let_go(self, songhash: str) -> None:
        """Give the lease back, if it has not expired."""
        await self._let_go(keys=[naming.lease_key(songhash)], args=[self.name])


def _message(job: str, record: Any) -> Message:
    """Read what stands in line under this id. Raises BadNotification or ValueError."""
    match naming.kind(job):
        case "replies":
            return Reply.from_record(job, record)
        case naming.PART:
            return Wanted.from_record(record)
        case "callbacks":
            return Callback.from_record(job, record)
        case _:
            return Upload.from_record(record)


def _parse(raw: bytes) -> _Payload:
    """Read a payload. One bad record does not keep the others from their turn."""
    payload = _Payload(raw, [])
    if len(raw) > _PAYLOAD_LIMIT:
        payload.error = f"not a bucket notification: {len(raw)} bytes"
        return payload
    try:
        found = records(raw)
    # An edge of the process: there is no end of what a stranger can write, and it must not stop the songs behind it
    # (RecursionError for a deep JSON, AttributeError for a list where an object should be, ...).
    except Exception as error:
        payload.error = _text(error)
        return payload
    for record in found:
        try:
            if is_new_object(record):
                payload.claims.append(_claim(Upload.from_record(record)))
            else:
                payload.other += 1
        except Exception as error:  # see above
            payload.error = _text(error)
    return payload


def _claim(upload: Upload) -> Call:
    """Return the call of CLAIM, in bytes where a text may hold what UTF-8 cannot. Raises ValueError for that."""
    job, texts = upload.job, (upload.bucket, upload.key, upload.etag, json.dumps(upload.record, ensure_ascii=False))
    keys = [naming.job_key(job), naming.WAITING, naming.DEAD, naming.ATTEMPTS, naming.RELAYS]
    return Call(keys, [job, str(upload.uploaded_ms), *(text.encode() for text in texts)])


def _text(error: Exception) -> str:
    text = str(error) if isinstance(error, BadNotification) else f"not a bucket notification: {error!r}"
    return text.encode(errors="backslashreplace").decode()
