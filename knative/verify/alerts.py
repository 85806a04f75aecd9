"""Reads alerts and dashboard as Prometheus does, and has its engine say which alerts the cases of alerts.yaml raise."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from knative.verify.tools import CHECKOUT
from stems.errors import ConfigError

_MONITORING = CHECKOUT / "knative" / "components" / "monitoring"
_CASES = Path(__file__).with_name("alerts.yaml")
# What Grafana puts in before it asks.
_VARIABLES = {"$__rate_interval": "5m", "$namespace": "stems"}


def faults(promql: str, monitoring: Path = _MONITORING) -> list[str]:
    """Return what is wrong with the alerts and the dashboard below `monitoring`."""
    alerts = yaml.safe_load((monitoring / "operator" / "alerts.yaml").read_text())["spec"]["groups"]
    dashboard = json.loads((monitoring / "dashboard.json").read_text())
    groups = [*alerts, {"name": "dashboard", "rules": list(_asked(dashboard))}]
    question = {"rules": yaml.safe_dump({"groups": groups}), "cases": yaml.safe_load(_CASES.read_text())}
    done = subprocess.run([promql], input=json.dumps(question), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{promql}: {done.stderr.strip()}")
    return done.stdout.splitlines()


def _asked(dashboard: Any) -> Iterator[dict[str, str]]:
    """Yield what the dashboard asks for, as rules that record it."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in _VARIABLES.items():
                text = text.replace(variable, value)
            yield {"record": f"panel:{panel['id']}:{target['refId']}", "expr": text}
