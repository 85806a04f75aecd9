"""Dashboard, alerts and pages name what exists, no more and no fewer."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from stems import metrics
from stems_relay.sink import Verdict
from tests.programs import CHECKOUT

KNATIVE = CHECKOUT / "knative"
MONITORING = KNATIVE / "components" / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "operator" / "alerts.yaml").read_text())["spec"]["groups"][0]["rules"]
RUNBOOK = (KNATIVE / "RUNBOOK.md").read_text()
# Of others: of the library that serves the metrics, and of Prometheus itself.
OTHERS = {"process_resident_memory_bytes"}
LABELS = {
    "line": metrics.LINES,
    "state": metrics.STATES,
    "verdict": metrics.VERDICTS,
    "stage": ("wait", *metrics.STAGES),
    "endpoint": ("separate",),
    "code": ("5..",),
}


def expressions() -> Iterator[tuple[str, str]]:
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_what_is_asked_for_is_there(where: str, expression: str) -> None:
    named = set(re.findall(r"\b(?:stems|process)_\w+", expression))
    assert named
    assert named <= {*metrics.names(), *OTHERS}
    for label, values in re.findall(r'(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"', expression):
        if label not in {"namespace", "__name__"}:
            assert set(values.split("|")) <= set(LABELS[label]), (label, values)


def test_each_metric_is_looked_at() -> None:
    seen = {name for _, expression in EXPRESSIONS for name in re.findall(r"\bstems_\w+", expression)}
    families = {re.sub("_(total|bucket|sum|count)$", "", name) for name in metrics.names()}
    assert families == {re.sub("_(total|bucket|sum|count)$", "", name) for name in seen}


def test_the_page_lists_each_metric_with_its_labels() -> None:
    listed = re.findall(r"^\| `(stems_\w+)(?:\{([\w,]+)\})?` \|", (MONITORING / "README.md").read_text(), re.MULTILINE)
    declared: dict[str, tuple[str, ...]] = {}
    for metric in metrics.ALL:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        declared[name] = tuple(sorted(metric._labelnames))
    assert {name: tuple(sorted(filter(None, labels.split(",")))) for name, labels in listed} == declared


def test_metrics_are_named_as_prometheus_wants() -> None:
    for metric in metrics.ALL:
        (family,) = metric.describe()
        assert family.documentation
        assert re.fullmatch(r"stems(_[a-z]+)+", family.name)
        assert not re.search("_(ms|minutes|millis|mib|count|total)$", family.name)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
    assert set(metrics.VERDICTS) == {verdict.value for verdict in Verdict}


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_each_alert_says_what_it_is_and_the_runbook_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    section = re.search(rf"^## {rule['alert']}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section
    for part in ("**Means**", "**Look**", "**Do**"):
        assert part in section[1], part


def test_the_runbook_has_no_alert_that_is_none() -> None:
    assert re.findall(r"^## (Stems\w+)$", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in ALERTS]
