"""Where an event stands in its trace: W3C's rules, and ours for events that bring no trace."""

import contextlib
import threading
from contextvars import copy_context

import pytest

from stems import trace
from stems.trace import Place, place

EVENT = f"00-{'a' * 32}-{'b' * 16}-01"
HOP = f"00-{'a' * 32}-{'c' * 16}-00"
OTHER = f"00-{'d' * 32}-{'e' * 16}-01"


def test_the_trace_of_an_event_is_the_same_each_time() -> None:
    one, again = place("1", "queue"), place("1", "queue")
    assert one == again
    assert (len(one.trace_id), one.span_id, one.traceparent) == (32, "", "")
    assert place("2", "queue").trace_id != one.trace_id
    assert place("1", "other").trace_id != one.trace_id


@pytest.mark.parametrize(
    ("event", "request_", "trace_id", "span_id"),
    [
        (EVENT, HOP, "a" * 32, "c" * 16),
        (EVENT, OTHER, "a" * 32, "b" * 16),
        (EVENT, None, "a" * 32, "b" * 16),
        (None, OTHER, "d" * 32, "e" * 16),
        ("nonsense", OTHER, "d" * 32, "e" * 16),
        (EVENT, "nonsense", "a" * 32, "b" * 16),
        (f"cc-{'a' * 32}-{'b' * 16}-01-what-comes-later", None, "a" * 32, "b" * 16),
    ],
)
def test_an_event_goes_on_with_the_trace_it_brings(
    event: str | None, request_: str | None, trace_id: str, span_id: str
) -> None:
    assert place("1", "x", event, request_) == Place("1", trace_id, span_id)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        EVENT.upper(),
        EVENT + "-more",
        EVENT + "\n",
        EVENT[:-1],
        f"ff-{'a' * 32}-{'b' * 16}-01",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"00-{'g' * 32}-{'b' * 16}-01",
        f"00-{'a' * 31}-{'b' * 16}-01",
    ],
)
def test_what_is_not_valid_counts_as_absent(wrong: str) -> None:
    assert place("1", "x", wrong) == place("1", "x")


def test_spans_nest_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[trace.Span] = []
    monkeypatch.setattr(trace, "_keep", [kept.append])
    with trace.span("of no event"):
        assert trace.here() is None
    with (
        contextlib.suppress(ValueError),
        trace.handling(place("1", "x", EVENT)),
        trace.span("outer", "server", key="a") as attributes,
    ):
        attributes["more"] = 1
        outer = trace.here() or place("none", "x")
        assert outer.traceparent == f"00-{'a' * 32}-{outer.span_id}-01"
        with trace.span("inner"):
            pass
        raise ValueError("no")
    assert trace.here() is None
    assert [(span.name, span.parent_id, span.error) for span in kept] == [
        ("inner", outer.span_id, ""),
        ("outer", "b" * 16, "ValueError: no"),
    ]
    assert (kept[1].kind, kept[1].attributes) == ("server", {"key": "a", "more": 1})
    assert all(span.start_ns <= span.end_ns for span in kept)


def test_a_thread_that_is_given_the_context_handles_the_same_event() -> None:
    found: list[Place | None] = []
    with trace.handling(place("1", "x")):
        thread = threading.Thread(target=copy_context().run, args=(lambda: found.append(trace.here()),))
        thread.start()
    thread.join()
    assert found == [place("1", "x")]
