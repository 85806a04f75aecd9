"""Benches print figures and judge nothing; they run only when asked for: `make bench`."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip benches unless `-m bench` asks for them."""
    if "bench" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("bench"):
            item.add_marker(pytest.mark.skip(reason="a bench: `make bench`"))
