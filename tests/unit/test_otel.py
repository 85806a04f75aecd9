"""Spans go nowhere unless somebody asks for them, and a missing extra stops nothing."""

import logging
import sys

import pytest

from stems import otel, trace
from stems.config import Settings

ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    kept: list[object] = []
    monkeypatch.setattr(trace, "_keep", kept)
    return kept


def test_nobody_asks(kept: list[object]) -> None:
    otel.configure(Settings.from_env({}), "relay")
    assert kept == []


def test_without_the_extra_it_is_said_and_all_goes_on(
    kept: list[object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        otel.configure(Settings.from_env(ASKED), "relay")
    assert kept == []
    assert "the extra `otel`" in caplog.text
