"""`make manifests`: build all overlays and components, check every object against the schemas and our rules."""

import sys
import tempfile
from pathlib import Path

from knative.verify import policy
from knative.verify.builds import build, builds, prepare
from knative.verify.schema import Schemas
from knative.verify.tools import EVENTING, KUBERNETES, SERVING, kustomize, module
from stems.errors import ConfigError


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def main() -> int:
    """Check everything; return the exit code."""
    try:
        return _check(
            kustomize(_say), Schemas.load(*(module(pinned, _say) for pinned in (KUBERNETES, SERVING, EVENTING)))
        )
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def _check(program: str, schemas: Schemas) -> int:
    count, faulty = 0, 0
    with tempfile.TemporaryDirectory(prefix="stems-manifests-") as folder:
        prepare(Path(folder))
        for what in builds():
            objects = build(program, Path(folder), what)
            faults = [*(fault for each in objects for fault in schemas.problems(each)), *policy.faults(objects)]
            count += 1
            faulty += bool(faults)
            _say(f"{'FAULTY' if faults else 'ok    '}  {what}: {len(objects)} objects")
            for fault in dict.fromkeys(faults):
                _say(f"        {fault}")
    print(f"{count} builds, {faulty} faulty")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
