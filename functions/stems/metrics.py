"""All metrics of all parts, declared here alone, and the port on which Prometheus finds them.

What must outlive a pod is counted by the relay, which lives on: a counter of a pod that comes, separates one song and
goes is hardly ever seen to rise. So `separate` tells the relay with each answer how long its stages took (the header
Server-Timing), and shows on its own port only what is true of the pod now.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.registry import Collector

from stems import naming

_log = logging.getLogger(__name__)

disable_created_metrics()  # type: ignore[no-untyped-call]

LINES = tuple(naming.LINES)
VERDICTS = ("done", "divided", "gone", "retry", "busy", "away", "unable", "dead")
STATES = ("waiting", "delayed", "delivering", "dead")
# Of `separate`, by its own word.
STAGES = ("fetch", "decode", "separate", "encode", "put")
# What it tells beside its stages: the length of the music, its own time for all, the start of a process that had no
# song before.
MUSIC, TOTAL, START = "music", "total", "start"

_STAGE_BUCKETS = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
_SONG_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600)
_REQUEST_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 60, 600)

# Read from Redis when they are asked for: every relay tells the same.
REDIS_UP = Gauge("stems_redis_up", "Whether Redis answered this relay: 1 or 0", registry=None)
NOTIFICATIONS = Gauge("stems_queue_notifications", "Notifications that no relay has read yet", registry=None)
QUEUE = Gauge(
    "stems_queue_jobs",
    "Songs, replies of the function, callbacks, by where they stand; delayed: due only later, after a failure",
    ["line", "state"],
    registry=None,
)
OLDEST = Gauge(
    "stems_queue_oldest_age_seconds", "How long the one that waits for longest has been due", ["line"], registry=None
)
RELAYS = Gauge("stems_relays", "Relays that live", registry=None)

# Counted by the relay that delivered.
DELIVERIES = Counter(
    "stems_deliveries",
    "Deliveries by what became of them; each `retry` is a failed attempt, each `dead` a dead letter",
    ["line", "verdict"],
    registry=None,
)
TURNAROUND = Histogram(
    "stems_song_turnaround_seconds",
    "From the upload of a song to its end as stems",
    buckets=_SONG_BUCKETS,
    registry=None,
)
MUSIC_SECONDS = Counter("stems_music_seconds", "Seconds of music separated", registry=None)
STAGE = Histogram(
    "stems_stage_seconds",
    "Seconds of a song in each stage; wait: what its delivery took beyond the worker's own time, a start included",
    ["stage"],
    buckets=_STAGE_BUCKETS,
    registry=None,
)
COLD_START = Histogram(
    "stems_cold_start_seconds",
    "From the start of a worker to its model being loaded, told with its first song",
    buckets=_STAGE_BUCKETS,
    registry=None,
)

# Of a function's own pod.
REQUESTS = Counter("stems_requests", "Requests answered, probes left out", ["endpoint", "code"], registry=None)
REQUEST = Histogram(
    "stems_request_seconds",
    "Seconds until an answer began",
    ["endpoint"],
    buckets=_REQUEST_BUCKETS,
    registry=None,
)
IN_WORK = Gauge("stems_songs_in_work", "Songs that this worker is separating: 1 or 0", registry=None)
MODEL_LOAD = Gauge(
    "stems_model_load_seconds", "From the start of this worker to its model being loaded; 0: not yet", registry=None
)

GAUGES = (NOTIFICATIONS, QUEUE, OLDEST, RELAYS)
RELAY = (DELIVERIES, TURNAROUND, MUSIC_SECONDS, STAGE, COLD_START)
FUNCTION = (REQUESTS, REQUEST)
SEPARATE = (*FUNCTION, IN_WORK, MODEL_LOAD)
ALL = (REDIS_UP, *GAUGES, *RELAY, *SEPARATE)

# A counter that appears with its first event is never seen to rise to it.
for _line in LINES:
    for _verdict in VERDICTS:
        DELIVERIES.labels(_line, _verdict)
for _stage in ("wait", *STAGES):
    STAGE.labels(_stage)


def delivered(line: str, verdict: str, seconds: float, timings_s: Mapping[str, float], age_s: float) -> None:
    """Count a delivery. `timings_s`: what the worker told of its time; `age_s`: seconds since the upload."""
    DELIVERIES.labels(line, verdict).inc()
    if line != "songs" or verdict != "done":
        return
    TURNAROUND.observe(max(age_s, 0))
    for stage in STAGES:
        if stage in timings_s:
            STAGE.labels(stage).observe(timings_s[stage])
    if TOTAL in timings_s:
        STAGE.labels("wait").observe(max(seconds - timings_s[TOTAL], 0))
    if "separate" in timings_s:
        MUSIC_SECONDS.inc(timings_s.get(MUSIC, 0))
    if START in timings_s:
        COLD_START.observe(timings_s[START])


def names() -> Iterator[str]:
    """Yield the names under which Prometheus stores what is declared here."""
    for metric in ALL:
        for family in metric.describe():
            yield from _stored(family)


def _stored(family: Metric) -> Iterator[str]:
    if family.type == "counter":
        yield f"{family.name}_total"
    elif family.type == "histogram":
        yield from (f"{family.name}_{part}" for part in ("bucket", "count", "sum"))
    else:
        yield family.name


def serve(port: int, *collectors: Collector) -> None:
    """Answer on `port`, from a thread of its own, with these and the process' own metrics; 0: do not.

    A port that is taken (a worker that is being replaced still has it) holds up no song: it is tried again.
    """
    if port:
        registry = CollectorRegistry()
        for collector in (ProcessCollector(registry=None), *collectors):
            registry.register(collector)
        threading.Thread(target=_listen, args=(port, registry), name="metrics", daemon=True).start()


def _listen(port: int, registry: CollectorRegistry) -> None:
    told = False
    while True:
        try:
            start_http_server(port, registry=registry)
            return
        except OSError as error:
            if not told:
                _log.warning("no metrics on port %d yet: %s", port, error)
            told = True
            time.sleep(1)
