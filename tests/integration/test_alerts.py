"""Prometheus' own reader of rules passes alerts and dashboard, and catches faults: what `make manifests` builds."""

import shutil
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from knative.verify import alerts
from tests.programs import CHECKOUT, need

MONITORING = CHECKOUT / "knative" / "components" / "monitoring"


@pytest.fixture(scope="module")
def promql() -> str:
    return need("stems-promql")


def test_ours_are_without_fault(promql: str) -> None:
    assert alerts.faults(promql) == []


@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("operator/alerts.yaml", "absent(stems_redis_up)", "absent(stems_redis_up", "unclosed left parenthesis"),
        ("operator/alerts.yaml", "for: 5m", "for: 5 minutes", "unknown unit"),
        ("operator/alerts.yaml", "{{ $value | humanizeDuration }}", "{{ $value | humanizeTime }}", "humanizeTime"),
        ("operator/alerts.yaml", "labels: {severity: critical}", "labels: {se-verity: critical}", "se-verity"),
        (
            "operator/alerts.yaml",
            "== 0",
            "== 1",
            "reaches Redis: at minute 20 [StemsRedisAway] are raised",
        ),
        ("operator/alerts.yaml", "> 1800", "> 18000", "after a while: at minute 45"),
        ("operator/alerts.yaml", "for: 2m", "for: 9m", "Redis is away: at minute 3 [] are raised"),
        ("dashboard.json", "max by (state)", "max by state", "parse error"),
    ],
)
def test_a_planted_fault_is_caught(promql: str, tmp_path: Path, file: str, right: str, wrong: str, said: str) -> None:
    shutil.copytree(MONITORING, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / file).read_text()
    assert right in text
    (tmp_path / file).write_text(text.replace(right, wrong, 1))
    found = alerts.faults(promql, tmp_path)
    assert any(said in fault for fault in found), found


def test_each_alert_is_raised_by_some_case() -> None:
    rules = yaml.safe_load((MONITORING / "operator" / "alerts.yaml").read_text())["spec"]["groups"][0]["rules"]
    cases = yaml.safe_load(Path(alerts.__file__).with_name("alerts.yaml").read_text())
    assert {rule["alert"] for rule in rules} == {name for case in cases for name in case["raised"]}
