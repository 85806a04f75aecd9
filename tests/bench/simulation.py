"""What pods make of songs in parts: a discrete-event simulation, from the seconds that each step was measured to take.

`python -m tests.bench.simulation [picture.png]` prints the tables of the engine's README and draws its picture.
"""

import heapq
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stems_relay.part_scripts import TURN

STEMS = 4
PODS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS = {"4 min": 240.0, "20 min": 1200.0, "1 h": 3600.0, "3 h": 3 * 3600.0, "12 h": 12 * 3600.0}
LONG, SHORT, SHORTS = "3 h", "4 min", 10
LONGS = (1, 3, 10, 50)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that steps take on a pod of two cores of a Zen 5, htdemucs, exact. `_per_s`: for each second of music."""

    segment: float = 0.9
    stride: float = 5.85  # of music, that a segment adds
    delivery: float = 0.03  # from one answer to the next request; lease, plan
    decode_per_s: float = 0.0031  # fetching and hashing too; the decoded song goes to the bucket meanwhile
    fetch_per_s: float = 0.0002  # the decoded sound of a part
    put_per_s: float = 0.0037  # the four raw stems of a part
    encode_per_s: float = 0.0069  # one stem to MP3, on one core
    copy_per_s: float = 0.00008  # a stem's MP3 that was joined apart, to its place


@dataclass(frozen=True, slots=True)
class Cut:
    """How songs are divided. `finest_s`: so fine where pods are free; 0: only long ones are."""

    part_s: float = 300.0
    finest_s: float = 0.0


@dataclass(slots=True)
class Song:
    """A song; `arrives`, `ended` in seconds."""

    arrives: float
    duration_s: float
    ended: float = math.inf


@dataclass(frozen=True, slots=True)
class Step:
    """What one pod does. `place_s`: a part's place, in seconds behind the song's upload; None: the song's own event."""

    song: int
    seconds: float
    place_s: float | None = None


def phases(number: int, song: Song, places: int, times: Times, cut: Cut) -> Iterator[list[Step]]:
    """Yield what is to be done of a song, one list after the other, as stems.separate does it."""

    def segments(seconds: float) -> int:
        return math.ceil(seconds / times.stride)

    duration_s, whole = song.duration_s, times.delivery + song.duration_s * times.decode_per_s
    parts = math.ceil(duration_s / cut.part_s)
    if cut.finest_s and places > 1:
        parts = max(parts, min(places, int(duration_s / cut.finest_s)))
    if parts == 1:
        yield [Step(number, whole + segments(duration_s) * times.segment)]
        return
    yield [Step(number, whole)]
    each_s = duration_s / parts
    moved = times.delivery + each_s * (times.fetch_per_s + times.put_per_s)
    computed = (segments(each_s) + 1) * times.segment
    yield [Step(number, moved + computed, duration_s)] * parts
    encoded = duration_s * times.encode_per_s
    if duration_s * STEMS <= 12 * cut.part_s:
        yield [Step(number, times.delivery + encoded * STEMS / 2)]  # on both cores
        return
    yield [Step(number, times.delivery)]
    yield [Step(number, times.delivery + encoded, 0)] * STEMS
    yield [Step(number, times.delivery + duration_s * STEMS * times.copy_per_s)]


def run(songs: Sequence[Song], pods: int, times: Times, cut: Cut) -> None:
    """Let songs go through so many pods by the rule of the relay, and note when each ended."""
    order = itertools.count()
    waiting: list[tuple[float, int, Step | None, int]] = []
    parts: list[tuple[float, int, Step | None, int]] = []
    events: list[tuple[float, int, int | None]] = [(song.arrives, number, number) for number, song in enumerate(songs)]
    to_come: dict[int, Iterator[list[Step]]] = {}
    left = dict.fromkeys(range(len(songs)), 0)
    heapq.heapify(events)
    ends: list[tuple[float, int, int]] = []
    now, free, passed = 0.0, pods, 0
    while events or ends:
        if events and (not ends or events[0][0] <= ends[0][0]):
            now, _, arrived = heapq.heappop(events)
            assert arrived is not None
            heapq.heappush(waiting, (now, next(order), None, arrived))
        else:
            now, _, number = heapq.heappop(ends)
            free += 1
            left[number] -= 1
            if not left[number]:
                found = next(to_come[number], [])
                songs[number].ended = math.inf if found else now
                left[number] = len(found)
                for step in found:
                    place = songs[number].arrives + (step.place_s or 0)
                    heapq.heappush(waiting if step.place_s is None else parts, (place, next(order), step, number))
        while free and (waiting or parts):
            line = parts if parts and (not waiting or passed >= TURN) else waiting
            passed = passed + 1 if line is waiting and parts else 0
            _, _, step_or_none, number = heapq.heappop(line)
            if step_or_none is None:
                places = free if not waiting and not parts else 0
                to_come[number] = phases(number, songs[number], places, times, cut)
                (step_or_none,) = next(to_come[number])
                left[number] = 1
            free -= 1
            heapq.heappush(ends, (now + step_or_none.seconds, next(order), number))


def alone(duration_s: float, pods: int, times: Times, cut: Cut) -> float:
    """Return the seconds that one song takes."""
    song = Song(0, duration_s)
    run([song], pods, times, cut)
    return song.ended


def behind(pods: int, times: Times, cut: Cut, longs: int) -> list[float]:
    """Return how long short songs take that come, one a second, ten minutes after so many long ones."""
    shorts = [Song(600.0 + number, LENGTHS[SHORT]) for number in range(SHORTS)]
    run([Song(0, LENGTHS[LONG]) for _ in range(longs)] + shorts, pods, times, cut)
    return sorted(song.ended - song.arrives for song in shorts)


def together(pods: int, times: Times, cut: Cut, longs: int) -> list[float]:
    """Return when each of so many long songs is there that come at once."""
    songs = [Song(number / 10, LENGTHS[LONG]) for number in range(longs)]
    run(songs, pods, times, cut)
    return sorted(song.ended for song in songs)


def clock(seconds: float) -> str:
    """Return a time for people."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.1f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def tables(times: Times) -> None:
    """Print the tables."""
    for title, cut in (("throughput", Cut()), ("latency", Cut(finest_s=30))):
        print(f"\n{title}\n| pods | " + " | ".join(LENGTHS) + " |\n|---|" + "---|" * len(LENGTHS))
        for pods in PODS:
            cells = []
            for duration_s in LENGTHS.values():
                took, one = (alone(duration_s, count, times, cut) for count in (pods, 1))
                cells.append(f"{clock(took)} ({one / took:.1f} x)")
            print(f"| {pods} | " + " | ".join(cells) + " |")
    heads = " | ".join(f"behind {longs} of {LONG}" for longs in LONGS)
    print(f"\n| pods | {SHORTS} songs of {SHORT} alone: median, last | {heads} |\n|---|---|" + "---|" * len(LONGS))
    for pods in PODS[:7]:
        told = []
        for longs in (0, *LONGS):
            found = behind(pods, times, Cut(), longs)
            told.append(f"{clock(found[len(found) // 2])}, {clock(found[-1])}")
        print(f"| {pods} | " + " | ".join(told) + " |")
    print(f"\n| pods | of so many of {LONG}, put at once: the first, the last |\n|---|---|")
    for pods in PODS[:4]:
        ends = {longs: together(pods, times, Cut(), longs) for longs in LONGS[1:]}
        told = [f"{longs}: {clock(found[0])}, {clock(found[-1])}" for longs, found in ends.items()]
        print(f"| {pods} | " + "; ".join(told) + " |")


def draw(path: str, times: Times) -> None:
    """Draw how much sooner a song is ready with more pods."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for number, (name, duration_s) in enumerate(LENGTHS.items()):
        for cut, style in ((Cut(), "-"), (Cut(finest_s=30), ":")):
            one = alone(duration_s, 1, times, cut)
            gains = [one / alone(duration_s, pods, times, cut) for pods in PODS]
            axes.plot(PODS, gains, style, color=f"C{number}", label=name if style == "-" else None)
    axes.plot(PODS, PODS, color="lightgrey", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="pods", ylabel="times sooner than with one pod", ylim=(0.9, 256))
    axes.set_xticks(PODS, map(str, PODS))
    axes.set_yticks(PODS, map(str, PODS))
    axes.minorticks_off()
    axes.legend(title="lines: throughput\ndots: latency", frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    tables(Times())
    if len(sys.argv) > 1:
        draw(sys.argv[1], Times())
