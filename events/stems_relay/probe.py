"""`python -m stems_relay.probe live|ready`: what a kubelet can ask of the relay beside it, which serves nothing.

The relay's heartbeat in Redis is the answer. Both run on one host (a pod), whose name begins the relay's. It is asked
several times a minute: only what it needs is imported.
"""

import socket
import sys
from typing import Any

import redis

from stems import naming
from stems.config import Settings
from stems_relay.scripts import SILENT_HEARTBEATS

_TIMEOUT_S = 3


def main(arguments: list[str]) -> int:
    """Return 0 if the relay is ready (it beats), or alive (it beats, or Redis is away, for which it waits)."""
    if arguments not in (["live"], ["ready"]):
        print("usage: python -m stems_relay.probe live|ready", file=sys.stderr)  # noqa: T201
        return 2
    settings = Settings.from_env()
    client = redis.Redis.from_url(
        settings.redis_url, decode_responses=True, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
    )
    try:
        return 0 if beats(client, settings.heartbeat_s * SILENT_HEARTBEATS) else 1
    except redis.RedisError:
        return 0 if arguments == ["live"] else 1


def beats(client: Any, silent_s: float) -> bool:
    """Tell whether a relay of this host has beaten within `silent_s`, by the clock of Redis."""
    seconds, microseconds = client.time()
    since_ms = 1000 * (seconds - silent_s) + microseconds / 1000
    names: list[str] = client.zrangebyscore(naming.RELAYS, since_ms, "+inf")
    return any(name.startswith(f"{socket.gethostname()}-") for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
