"""How a long song is cut, and what travels of it."""

import json
import math
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_structured_event

from stems.contract import TYPE_PART, Upload
from stems.division import Divided, Next, Wanted, from_http
from stems.errors import BadNotification
from stems.separate import plan as plans
from stems.separate.plan import Plan
from tests.relay_stack import RECORD
from tests.unit.test_engine import Unit, model_of

UPLOAD = Upload.from_record(RECORD)
WANTED = Wanted(UPLOAD, "a" * 64, "b" * 16, "part-3-of-12")
DIVIDED = Divided("a" * 64, "b" * 16, (Next("part-1-of-2", 0), Next("part-2-of-2", 150.5)), 2, 0, 0.95)


def test_the_event_of_a_part_says_which_it_is() -> None:
    headers, body = WANTED.to_http()
    assert headers["ce-type"] == TYPE_PART
    found, place = from_http(headers, body)
    assert found == WANTED == Wanted.from_record(json.loads(json.dumps(WANTED.record)))
    assert place.trace_id == UPLOAD.place.trace_id or place.event_id.startswith(UPLOAD.place.event_id)
    assert from_http(*UPLOAD.to_http())[0] == UPLOAD
    event = to_structured_event(WANTED.to_event())
    assert from_http(dict(event.headers), bytes(event.body))[0] == WANTED


@pytest.mark.parametrize(
    "wrong",
    [
        {"songhash": "a/../b"},
        {"songhash": 7},
        {"plan": "../../x"},
        {"name": "part-1-of-2/../x"},
        {"name": "mix"},
        {"upload": {}},
        {"upload": None},
    ],
)
def test_a_part_with_another_name_than_parts_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadNotification):
        Wanted.from_record({**WANTED.record, **wrong})


def test_the_answer_that_divides_is_read_as_it_was_written() -> None:
    assert Divided.from_json(json.dumps(DIVIDED.to_dict()).encode()) == DIVIDED
    assert [each.name for each in DIVIDED.wanted(UPLOAD)] == ["part-1-of-2", "part-2-of-2"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": []},
        {"parts": [{"name": "part-1-of-2"}]},
        {"parts": [{"name": "x", "place_s": 0}]},
        {"parts": [{"name": "part-1-of-2", "place_s": -1}]},
        {"parts": [{"name": "part-1-of-2", "place_s": math.inf}]},
        {"parts": [{"name": "part-1-of-2", "place_s": 0}] * 2},
        {"begin": 0.96},
        {"end": 1.1},
        {"plan": "x"},
        {"songhash": "x"},
        {"count": "many"},
    ],
)
def test_an_answer_that_divides_badly_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadNotification, match="not a divided song"):
        Divided.from_json(json.dumps({**DIVIDED.to_dict(), **wrong}).encode())


def test_what_is_no_json_is_refused() -> None:
    for text in (b"", b"[]", b"7", b"\xff", b"[" * 10_000):
        with pytest.raises(BadNotification):
            Divided.from_json(text)
        with pytest.raises(ValueError, match="not a plan"):
            Plan.from_json(text if text != b"[" * 10_000 else b"{}")


@pytest.mark.parametrize(
    ("duration_s", "networks", "places", "parts"),
    [
        (300, 1, 0, 1),
        (301, 1, 0, 2),
        (3600, 1, 0, 12),
        (3600, 4, 0, 48),  # of a bag each network takes its time
        (240, 1, 1, 1),
        (240, 1, 4, 4),
        (240, 1, 100, 8),  # not finer than half a minute
        (3600, 1, 4, 12),
        (10, 1, 100, 1),
    ],
)
def test_a_song_is_cut_as_its_length_and_free_workers_ask(
    duration_s: float, networks: int, places: int, parts: int
) -> None:
    model = model_of(*[Unit()] * networks)
    assert plans.count(duration_s, model, 10_000, 300, places) == parts
    assert (duration_s > plans.longest_whole_s(model, 300, places)) == (parts > 1)
    assert plans.count(duration_s, model, 10_000, 0, places) == 1


@pytest.mark.parametrize(("segments", "parts"), [(1, 1), (17, 17), (52, 3), (100, 7)])
def test_the_parts_of_a_song_are_equal_but_for_a_segment(segments: int, parts: int) -> None:
    cuts = plans.cuts(segments, parts)
    lengths = [after - before for before, after in zip(cuts, cuts[1:], strict=False)]
    assert (cuts[0], cuts[-1], len(lengths)) == (0, segments, parts)
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
