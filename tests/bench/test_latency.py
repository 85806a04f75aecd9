"""How long a song waits for nothing: from the end of its PUT to the start of its separation, on a warm idle worker."""

import statistics
import time
from pathlib import Path

import pytest

from tests.bench.machine import machine
from tests.pipeline import Pipeline, song

UPLOADS = 50


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_from_the_end_of_a_put_to_the_start_of_separation(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "warm.wav", seed=1, duration_s=1)
    pipeline.done("warm.wav", pipeline.put(path, "warm.wav"))

    taken_ms, begun_ms = [], []
    for number in range(UPLOADS):
        path, key = song(tmp_path / "song.wav", seed=100 + number, duration_s=1), f"song {number}.wav"
        etag = pipeline.put(path, key)
        put_ms = time.time() * 1000
        job = pipeline.settled(key, etag)
        stages_s = pipeline.done(key)["stages_s"]
        taken_ms.append(int(job["started_ms"]) - put_ms)
        begun_ms.append(taken_ms[-1] + 1000 * (stages_s["fetch"] + stages_s["decode"]))
    print(f"\n{machine()}\n{UPLOADS} uploads of 1 s of music, one after the other; ms from the end of the PUT")
    for what, times in (("the worker has the song", taken_ms), ("it is fetched and decoded", begun_ms)):
        cuts = statistics.quantiles(times, n=20)
        print(f"  {what:<28} p50 {statistics.median(times):6.1f}   p95 {cuts[-1]:6.1f}   max {max(times):6.1f}")
