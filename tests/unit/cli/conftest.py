"""The command line without servers and without anybody's settings."""

from pathlib import Path

import pytest

from tests.cli import alone


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)
