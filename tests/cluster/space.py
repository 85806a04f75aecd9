"""A namespace of the cluster that KUBECONFIG names, by way of kubectl."""

import json
import os
import subprocess
from typing import Any

from tests.programs import need, skip_or_fail


def need_cluster() -> None:
    """Skip the calling test (fail it in CI) where there is no kubectl, or no cluster with Knative Serving."""
    need("kubectl")
    # The current cluster of whoever runs this is not meant by accident.
    if not os.environ.get("KUBECONFIG"):
        skip_or_fail("KUBECONFIG is not set: the cluster to test on")
    asked = ["kubectl", "get", "crd", "services.serving.knative.dev", "--request-timeout=10s"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        skip_or_fail(f"no cluster with Knative Serving: {done.stderr.strip()}")


class Space:
    """A namespace; nothing here reaches beyond it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl and return what it prints; its errors are the test's."""
        command = ["kubectl", "--namespace", self.name, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout

    def get(self, *what: str) -> list[dict[str, Any]]:
        """Return objects as they are now."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", *what, "-o", "json"))["items"]
        return found

    def pods(self, part: str) -> list[dict[str, Any]]:
        """Return the pods of a part."""
        return self.get("pods", "-l", f"app.kubernetes.io/name={part}")

    def pod(self, part: str) -> str:
        """Return the name of the one pod of a part that is there to stay."""
        names = [pod["metadata"]["name"] for pod in self.pods(part) if "deletionTimestamp" not in pod["metadata"]]
        assert len(names) == 1, names
        return str(names[0])

    def kill(self, pod: str) -> None:
        """Take a pod away at once, as a node that fails does: nobody in it is told."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
