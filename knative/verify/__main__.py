"""`make manifests`: build overlays and components, check each object against schemas, Knative's webhook, our rules."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from knative.verify import alerts, policy, tools
from knative.verify.builds import build, builds, prepare
from knative.verify.objects import Object
from knative.verify.schema import Schemas
from stems.errors import ConfigError


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def main() -> int:
    """Check everything; return the exit code."""
    try:
        pinned = (tools.KUBERNETES, tools.SERVING, tools.EVENTING, tools.OPERATOR)
        modules = [tools.module(each, _say) for each in pinned]
        faulty = _check_alerts(tools.promql(_say))
        return _check(tools.kustomize(_say), tools.webhook(_say), Schemas.load(*modules)) or faulty
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _check_alerts(promql: str) -> int:
    faults = alerts.faults(promql)
    _say(f"{'FAULTY' if faults else 'ok    '}  alerts and dashboard")
    for fault in faults:
        _say(f"        {fault}")
    return 1 if faults else 0


def _check(kustomize: str, webhook: str, schemas: Schemas) -> int:
    count, faulty = 0, 0
    with tempfile.TemporaryDirectory(prefix="stems-manifests-") as folder:
        prepare(Path(folder))
        for what in builds():
            objects = build(kustomize, Path(folder), what)
            faults = [fault for each in objects for fault in schemas.problems(each)]
            faults += [*_refusals(webhook, objects), *policy.faults(objects)]
            count += 1
            faulty += bool(faults)
            _say(f"{'FAULTY' if faults else 'ok    '}  {what}: {len(objects)} objects")
            for fault in dict.fromkeys(faults):
                _say(f"        {fault}")
    print(f"{count} builds, {faulty} faulty")
    return 1 if faulty else 0


def _refusals(webhook: str, objects: Sequence[Object]) -> list[str]:
    """Return what Knative's webhook would say. Raises ConfigError where it cannot be asked."""
    done = subprocess.run([webhook], input=json.dumps(objects), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{webhook}: {done.stderr.strip()}")
    return done.stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
