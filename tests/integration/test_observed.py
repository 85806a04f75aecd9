"""A pipeline as its operators see it: its log, its traces, its metrics."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from stems import metrics, naming
from stems.contract import TYPE_SEPARATED
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.conftest import QUICK
from tests.metrics import scrape
from tests.pipeline import Pipeline, song, wait_for
from tests.programs import need
from tests.receiver import Receiver
from tests.servers import free_port, until

# Lines that are about no event.
OF_NO_EVENT = {"relay started", "swept the bucket"}


class Observed(Stack):
    """A stack whose parts have each a port for their metrics."""

    metrics: Mapping[str, int] = {}

    def environ(self, user: str) -> dict[str, str]:
        return {**super().environ(user), "STEMS_METRICS_PORT": str(self.metrics.get(user, 0))}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver().open() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def observed(programs: Programs, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    need("stems")
    settings = {
        "STEMS_LOG_FORMAT": "json",
        "STEMS_REPLY_SINK": f"{receiver.url}/replies",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{receiver.url}/otlp",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    stack = Observed(tmp_path_factory.mktemp("observed"), programs, QUICK | settings)
    stack.metrics = {part: free_port() for part in ("relay", "separate", "tracks")}
    stack.start()
    pipeline = Pipeline(stack)
    yield pipeline
    pipeline.close()
    stack.stop()


@pytest.fixture(scope="module")
def separated(observed: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A song that was separated; its track."""
    path = song(tmp_path_factory.mktemp("songs") / "seen.wav", seed=700)
    etag = observed.put(path, "seen.wav")
    track = observed.done("seen.wav", etag)
    observed.settled("seen.wav", etag)
    return track


def lines(pipeline: Pipeline, part: str) -> list[dict[str, Any]]:
    """Return the log of a part; gunicorn's own lines are no JSON."""
    text = (pipeline.stack.root / "logs" / f"{part}.log").read_text()
    others = [line for line in text.splitlines() if not line.startswith(("{", "["))]
    assert not others
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_each_line_about_a_song_names_its_event(observed: Pipeline, separated: dict[str, Any], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.mp3"
    garbage.write_bytes(b"no song at all" * 100)
    etags = {"garbage.mp3": observed.put(garbage, "garbage.mp3")}
    path = song(tmp_path / "seen.wav", seed=700)
    etags["same bytes.wav"] = observed.put(path, "same bytes.wav")
    assert observed.ended("garbage.mp3")["state"] == "failed"
    observed.done("same bytes.wav", etags["same bytes.wav"])
    for key, etag in etags.items():
        observed.settled(key, etag)
    relay, separate = lines(observed, "relay"), lines(observed, "separate")
    about = [line for line in relay if line["message"] not in OF_NO_EVENT]
    about += [line for line in separate if not line["message"].startswith("the model")]
    assert [line for line in about if not line.get("event_id") or not line.get("trace_id")] == []
    for key in ("seen.wav", *etags):
        events = {line["event_id"] for line in about if line.get("key") == key and not is_reply(line)}
        traces = {line["trace_id"] for line in about if line.get("key") == key}
        assert (len(events), len(traces)) == (1, 1), "one event, one trace, of relay and function alike"
        parts = {line["component"] for line in about if line["event_id"] in events}
        assert parts == {"relay", "separate"}
    tail: Any = observed.redis.lrange(naming.LOG_TAIL, 0, -1)
    songs = [line for line in tail if "key=" in line]
    assert songs
    assert all(" event_id=" in line for line in songs), songs


def is_reply(line: Mapping[str, Any]) -> bool:
    return naming.kind(str(line.get("job", ""))) != naming.SONGS


def test_relay_and_function_tell_of_one_trace(
    observed: Pipeline, separated: dict[str, Any], receiver: Receiver
) -> None:
    (line,) = [line for line in lines(observed, "separate") if line["message"] == "separated"][:1]

    def spans() -> dict[str, list[tuple[str, Span]]]:
        found: dict[str, list[tuple[str, Span]]] = {}
        for post in [post for post in receiver.posts if post.path == "/otlp/v1/traces"]:
            for resource in ExportTraceServiceRequest.FromString(post.body).resource_spans:
                (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    if span.trace_id.hex() == line["trace_id"]:
                        found.setdefault(span.name, []).append((service, span))
        return found

    until(lambda: {"deliver", "request"} <= spans().keys() and len(spans()["deliver"]) == 2)
    found = spans()
    assert found.keys() == {"deliver", "request", "fetch", "decode", "separate", "encode", "put"}
    ((_, first), (_, passed_on)) = sorted(found.pop("deliver"), key=lambda pair: pair[1].start_time_unix_nano)
    ((service, request),) = found.pop("request")
    assert (service, first.parent_span_id, request.parent_span_id) == ("stems-separate", b"", first.span_id)
    assert (first.kind, request.kind) == (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
    assert passed_on.parent_span_id == request.span_id
    for stage in found:
        ((service, span),) = found[stage]
        assert (service, span.parent_span_id) == ("stems-separate", request.span_id)
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano <= first.end_time_unix_nano


def test_the_reply_reaches_the_receiver_with_the_record(
    observed: Pipeline, separated: dict[str, Any], receiver: Receiver
) -> None:
    def replies() -> list[Any]:
        posts = [post for post in receiver.posts if post.path == "/replies"]
        return [post for post in posts if post.headers["ce-subject"] == "seen.wav"]

    (post,) = wait_for("the reply", replies)
    assert post.headers["ce-type"] == TYPE_SEPARATED
    record = json.loads(post.body)
    assert (record["songhash"], record["key"]) == (separated["songhash"], "seen.wav")
    assert post.headers["ce-traceparent"].split("-")[1] == post.headers["traceparent"].split("-")[1]


def test_the_relay_knows_how_long_the_stages_took(observed: Pipeline, separated: dict[str, Any]) -> None:
    found = scrape(observed.stack.metrics["relay"])  # type: ignore[attr-defined]
    for stage in ("wait", *metrics.STAGES):
        assert found[f"stems_stage_seconds_count stage={stage}"] >= 1, stage
    assert found["stems_music_seconds_total"] >= separated["duration_s"]
    assert (found["stems_cold_start_seconds_count"], found["stems_cold_start_seconds_sum"] > 0.1) == (1, True)


@pytest.mark.timeout(300)
def test_metrics_answer_while_a_song_is_separated_and_after_the_worker_died(observed: Pipeline, tmp_path: Path) -> None:
    port = observed.stack.metrics["separate"]  # type: ignore[attr-defined]
    idle = scrape(port)
    assert (idle["stems_songs_in_work"], idle["stems_model_load_seconds"] > 0) == (0, True)
    etag = observed.put(song(tmp_path / "long.wav", seed=701, duration_s=40), "long.wav")
    observed.in_the_middle("long.wav", etag)
    started = time.monotonic()
    busy = scrape(port)
    assert time.monotonic() - started < 5
    assert busy["stems_songs_in_work"] == 1
    (worker,) = workers(observed.stack.pid("pipeline:separate"))
    os.kill(worker, signal.SIGKILL)
    wait_for("another worker", lambda: workers(observed.stack.pid("pipeline:separate")) not in ([], [worker]))
    until(lambda: scrape(port)["process_start_time_seconds"] > busy["process_start_time_seconds"], 60)
    observed.done("long.wav", etag, deadline_s=200)
    observed.settled("long.wav", etag, deadline_s=200)
    after = scrape(port)
    assert after["stems_songs_in_work"] == 0
    assert after["stems_requests_total code=200 endpoint=separate"] >= 1


def workers(pid: int) -> list[int]:
    """Return gunicorn's workers."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_tracks_counts_its_requests(observed: Pipeline) -> None:
    observed.get("/v1/tracks")
    with urllib.request.urlopen(f"{observed.stack.tracks_url}/health/live", timeout=10):
        pass
    observed.get("/no/such/thing")
    found = scrape(observed.stack.metrics["tracks"])  # type: ignore[attr-defined]
    requests = {name: value for name, value in found.items() if name.startswith("stems_requests_total")}
    assert any("code=404 endpoint=none" in name for name in requests)
    assert any("code=200" in name for name in requests)
    assert not any("health" in name for name in requests)
