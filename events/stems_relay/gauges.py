"""The lines as Prometheus sees them: read from Redis when it asks, at a cost that does not grow with the lines."""

from collections.abc import Iterable
from typing import Any

import redis
from prometheus_client import Metric
from prometheus_client.registry import Collector

from stems import metrics, naming


class Gauges(Collector):
    """Sets the gauges of the lines and returns them; with Redis away, only that it is."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client

    def collect(self) -> Iterable[Metric]:
        """Return what Prometheus asks for."""
        try:
            self._read()
        except redis.RedisError:
            metrics.REDIS_UP.set(0)
            return metrics.REDIS_UP.collect()
        metrics.REDIS_UP.set(1)
        return [family for gauge in (metrics.REDIS_UP, *metrics.GAUGES) for family in gauge.collect()]

    def _read(self) -> None:
        seconds, microseconds = self._redis.time()
        now_ms = seconds * 1000 + microseconds / 1000
        relays = self._redis.zrange(naming.RELAYS, 0, -1)
        pipe = self._redis.pipeline(transaction=False)
        pipe.llen(naming.NOTIFICATIONS)
        for waiting, dead in naming.LINES.values():
            pipe.zcard(dead).zcount(waiting, "-inf", now_ms).zcount(waiting, f"({now_ms}", "+inf")
            pipe.zrange(waiting, 0, 0, withscores=True)
        for relay in relays:
            pipe.smembers(naming.delivering_key(relay))
        unread, *found = pipe.execute()
        # No more than may be in flight.
        delivering = [job for jobs in found[4 * len(naming.LINES) :] for job in jobs]
        metrics.NOTIFICATIONS.set(unread)
        metrics.RELAYS.set(len(relays))
        for number, line in enumerate(naming.LINES):
            dead, due, delayed, oldest = found[4 * number : 4 * number + 4]
            in_flight = sum(naming.kind(job) == line for job in delivering)
            if line == naming.PART:  # by their place, which may be yet to come; those due later wait with the songs
                due, delayed = due + delayed, 0
            states = {"waiting": due, "delayed": delayed, "delivering": in_flight, "dead": dead}
            for state in metrics.STATES:
                metrics.QUEUE.labels(line, state).set(states[state])
            due_ms = oldest[0][1] if oldest else now_ms
            metrics.OLDEST.labels(line).set(max(now_ms - due_ms, 0) / 1000)
