"""Dependencies point one way, and only the function `separate` pays for torch."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "demucs", "numpy"}


# Only where spans are asked for. (redis imports the rest of OpenTelemetry by itself, where it is there.)
OTEL = {"opentelemetry.exporter"}


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("stems.cli", HEAVY | {"flask", "minio", "redis", "httpx2", "stems_relay", "stems_local"}),
        ("stems.tracks.app", HEAVY | OTEL | {"httpx2", "stems_relay", "stems.cli", "stems.separate"}),
        ("stems_relay.relay", HEAVY | OTEL | {"flask", "stems.cli", "stems.separate", "stems.tracks"}),
        ("stems.separate.app", OTEL | {"httpx2", "stems_relay", "stems.cli", "stems.tracks"}),
        ("stems.separate.work", {"flask", "minio", "redis", "cloudevents", "stems.storage", "stems.jobs"}),
    ],
)
def test_a_part_imports_only_what_is_its_own(module: str, foreign: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not foreign & set(done.stdout.split())
