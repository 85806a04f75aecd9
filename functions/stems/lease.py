"""A lease in Redis: the right to work on something, which ends by itself when its holder dies.

Redis away is not a failure of a song: who cannot take or renew a lease goes on, since doing the work twice writes the
same bytes under the same names.
"""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

import redis

from stems import naming
from stems.errors import InProgress

_log = logging.getLogger(__name__)

# Renewing also takes a lease that nobody holds: after Redis lost its data, or a pause longer than the lease.
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder == false or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


@contextmanager
def held(client: redis.Redis, identity: str, lease_s: float, *, needed: bool = False) -> Iterator[None]:
    """Hold the lease on `identity` (a job id or a song hash), renewing it every third of `lease_s`.

    Raises InProgress, with the seconds left of it, when somebody else holds it; where it is `needed` (to remove what
    another may be writing), a Redis error when nobody can tell.
    """
    key, token, ttl_ms = naming.lease_key(identity), secrets.token_hex(8), int(lease_s * 1000)
    try:
        _take(client, key, token, ttl_ms)
    except redis.RedisError as error:
        if needed:
            raise
        _log.warning("no lease taken: %s", error)
    stopped = threading.Event()
    # In our context: its lines of the log name the event, too.
    work = (_renew, client, key, token, ttl_ms, stopped)
    renewal = threading.Thread(target=copy_context().run, args=work, name="lease", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        stopped.set()
        renewal.join()
        try:
            client.eval(RELEASE, 1, key, token)
        except redis.RedisError as error:
            _log.warning("the lease is left to expire: %s", error)


def _take(client: redis.Redis, key: str, token: str, ttl_ms: int) -> None:
    if client.set(key, token, nx=True, px=ttl_ms):
        return
    left_ms = int(client.pttl(key))
    raise InProgress("this song is being separated by another worker", retry_after_s=max(left_ms, 100) / 1000)


def _renew(client: redis.Redis, key: str, token: str, ttl_ms: int, stopped: threading.Event) -> None:
    while not stopped.wait(ttl_ms / 3000):
        try:
            if not client.eval(_RENEW, 1, key, token, ttl_ms):
                _log.warning("another worker took the lease while this one was paused; going on")
                return
        except redis.RedisError as error:
            _log.warning("the lease was not renewed: %s", error)
