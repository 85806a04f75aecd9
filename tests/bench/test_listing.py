"""What the REST function costs: lists of a thousand and of a million tracks, listeners, downloads."""

import hashlib
import json
import random
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stems import entries, naming
from stems.record import Track
from tests.bench.machine import machine
from tests.programs import need
from tests.servers import until
from tests.sse import Listener
from tests.tracks_stack import MB, Stack, running, url

SIZES = (1_000, 1_000_000)
ASKED = 500
PLACES = 20
BATCH = 2_000
LISTENERS = (100, 1_000)
CLIENTS = (1, 16, 128)
STEM = 10 * MB  # four minutes as MP3
WORDS = (
    *("love", "night", "blue", "river", "dance", "heart", "fire", "light", "road", "summer"),
    *("rain", "dream", "city", "gold", "moon", "home", "time", "star", "wild", "sea"),
)

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("listing")) as stack:
        print(f"\n{machine()}")
        yield stack


def tracks(stack: Stack, count: int) -> Iterator[tuple[Track, str]]:
    """Yield tracks of four stems, and their records as JSON."""
    pattern = stack.put(0, vocals_mp3=b"v", drums_mp3=b"d", bass_mp3=b"b", other_mp3=b"o")
    text = pattern.to_json().decode()  # a million times made anew, it would take minutes
    chance = random.Random(count)
    for number in range(count):
        name = " ".join(chance.choices(WORDS, k=3)).capitalize() + f" {number}.mp3"
        songhash = hashlib.sha256(str(number).encode()).hexdigest()
        track = replace(pattern, songhash=songhash, name=name, created_ms=1_700_000_000_000 + 60_000 * number)
        record = text.replace(pattern.songhash, songhash).replace(f'"{pattern.name}"', f'"{name}"')
        yield track, record.replace(str(pattern.created_ms), str(track.created_ms))


def fill(stack: Stack, count: int) -> None:
    """Enter tracks into the index as `Index.add` does, many at a time."""
    stack.clear()
    made = tracks(stack, count)
    while some := list(islice(made, BATCH)):
        pipe = stack.redis.pipeline(transaction=False)
        pipe.mset({naming.track_key(track.songhash): record for track, record in some})
        pipe.zadd(naming.TRACKS, {track.songhash: track.created_ms for track, _ in some})
        pipe.zadd(naming.TRACK_NAMES, {entries.of(track): 0 for track, _ in some})
        pipe.execute()
    stack.redis.set(naming.TRACKS_COMPLETE, "1")


def records(stack: Stack, shown: list[Any]) -> None:
    """Put the records of some tracks into the bucket: what is shown is looked for there."""
    for track in shown:
        stack.put_object(naming.record_object(track.songhash), track.to_json())


def timed(stack: Stack, paths: Callable[[], str]) -> list[float]:
    """Return the milliseconds of ASKED requests, one after the other."""
    times_ms = []
    for _ in range(ASKED):
        path, started = paths(), time.perf_counter()
        assert stack.get(path).status == 200
        times_ms.append(1000 * (time.perf_counter() - started))
    return times_ms


def row(what: str, times_ms: list[float]) -> str:
    p50, p99 = statistics.median(times_ms), statistics.quantiles(times_ms, n=100)[98]
    return f"  {what:<34} p50 {p50:7.1f} ms   p99 {p99:7.1f} ms"


@pytest.mark.parametrize("count", SIZES)
def test_latency_of_the_list(stack: Stack, count: int) -> None:
    started = time.monotonic()
    fill(stack, count)
    used_mb = stack.redis.info("memory")["used_memory"] / MB
    print(f"{count:,} tracks: entered in {time.monotonic() - started:.0f} s, Redis has {used_mb:,.0f} MiB")
    chance = random.Random(1)
    first = stack.index.page(50)
    # Positions all over the list, and beginnings of names of which there are many, and few.
    places = [(1_700_000_000_000 + 60_000 * chance.randrange(count), "f" * 64) for _ in range(PLACES)]
    cursors = [f"{created}-{songhash}" for created, songhash in places]
    many, few = [word[:2] for word in WORDS], [f"{word} love moon" for word in WORDS]
    sinces = ["2023-11-15T00:00:00Z"]
    shown = [*first.tracks, *stack.index.get(stack.redis.zrange(naming.TRACKS, 0, 20))]
    shown += [track for cursor in cursors for track in stack.index.page(50, cursor).tracks]
    shown += [track for q in (*many, *few) for track in stack.index.search(q, 50).tracks]
    records(stack, shown)
    asked: dict[str, Callable[[], str]] = {
        "list, 50 tracks": lambda: "/v1/tracks",
        "next page": lambda: f"/v1/tracks?cursor={chance.choice(cursors)}",
        "search, two letters": lambda: f"/v1/tracks?q={chance.choice(many)}",
        "search, three words": lambda: f"/v1/tracks?q={quote(chance.choice(few))}",
        "search, not older than": lambda: f"/v1/tracks?q={chance.choice(many)}&since={sinces[0]}",
        "one track (from MinIO)": lambda: f"/v1/tracks/{chance.choice(shown).songhash}",
    }
    for what, paths in asked.items():
        stack.get(paths())
        print(row(what, timed(stack, paths)))


def test_memory_of_listeners(stack: Stack) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # As new: memory that other requests have freed would be taken for none.
    stack.kill("tracks")
    stack.start("tracks")
    listeners = [Listener(stack.ports["tracks"]).begin()]
    started_mb = stack.rss_mb()
    threads = len(list((stack.worker() / "task").iterdir()))
    for count in LISTENERS:
        before_mb, there = stack.rss_mb(), len(listeners)
        while len(listeners) < count + 1:
            listeners.append(Listener(stack.ports["tracks"]).begin())
        grown_kb = 1024 * (stack.rss_mb() - before_mb) / (len(listeners) - there)
        times_ms = []
        for number in range(20):
            track = stack.put(10_000_000 + number, vocals_mp3=b"v")
            began = time.perf_counter()
            stack.index.add(track)
            assert listeners[-1].until("track").data["songhash"] == track.songhash
            times_ms.append(1000 * (time.perf_counter() - began))
            for listener in listeners[:-1]:
                listener.until("track")
        print(f"{count:,} listeners: {grown_kb:.1f} KiB each; {stack.rss_mb():.0f} MiB in all, {started_mb:.0f} before")
        print(row("from a change to the last of them", times_ms))
    now = len(list((stack.worker() / "task").iterdir()))
    connections = stack.redis.info("clients")["connected_clients"]
    print(f"threads before and after: {threads}, {now}; connections to Redis: {connections}")
    for listener in listeners:
        listener.close()
    assert stack.get("/health/live").status == 200
    until(lambda: len(list((stack.worker() / "fd").iterdir())) < 300)


def test_rate_of_downloads(stack: Stack, tmp_path: Path) -> None:
    track = stack.put(1, vocals_mp3=random.Random(1).randbytes(STEM))
    ours = stack.url + url(track)
    minio = stack.get(f"{url(track)}?redirect=1").headers["Location"]

    def rate(address: str, clients: int) -> float:
        """Return MiB a second of so many clients, each of which takes some files one after the other."""
        files = max(128 // clients, 2)
        arguments = ["--silent", "--fail", "--retry", "100", "--retry-delay", "1"]
        arguments += ["--parallel", "--parallel-max", str(clients), "--parallel-immediate"]
        for _ in range(clients * files):
            arguments += ["-o", "/dev/null", address]
        started = time.monotonic()
        subprocess.run([need("curl"), *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return clients * files * STEM / MB / (time.monotonic() - started)

    print(f"a stem of {STEM // MB} MiB, MiB/s; curl runs on the same cores")
    for clients in CLIENTS:
        theirs, mine = rate(minio, clients), rate(ours, clients)
        print(f"  {clients:>4} clients   MinIO {theirs:7.0f}   through tracks {mine:7.0f}   ratio {mine / theirs:.2f}")
    assert json.loads(stack.get("/health/live").data) == {"status": "live"}
