"""Knative's own checks pass our functions and refuse what it would refuse: the program that `make manifests` builds."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.manifests import Manifests
from tests.programs import need

Change = Callable[[Manifests], Any]
DOMAIN = {
    "apiVersion": "serving.knative.dev/v1beta1",
    "kind": "DomainMapping",
    "metadata": {"name": "stems.svc.cluster.local", "namespace": "stems"},
    "spec": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "tracks"}},
}


def refusals(manifests: Manifests) -> str:
    command, objects = [need("knative-webhook")], json.dumps(manifests.objects)
    return subprocess.run(command, input=objects, capture_output=True, text=True, check=True).stdout


def test_our_functions_pass() -> None:
    assert refusals(Manifests()) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pod("separate").update(containerConcurrency=-1), "containerConcurrency"),
        (lambda m: m.pod("separate").update(timeoutSeconds=900), "timeoutSeconds"),
        (lambda m: m.pod("separate").update(initContainers=[{"image": "x"}]), "initContainers"),
        (lambda m: m.pod("separate").update(nodeSelector={"gpu": "yes"}), "nodeSelector"),
        (lambda m: m.pod("separate").update(replicas=3), "replicas"),
        (
            lambda m: m.pod("tracks")["volumes"][0].update(persistentVolumeClaim={"claimName": "x"}),
            "persistentVolumeClaim",
        ),
        (
            lambda m: m.template("tracks")["metadata"]["annotations"].update(
                {"autoscaling.knative.dev/max-scale": "x"}
            ),
            "max-scale",
        ),
        (lambda m: m.container("tracks")["readinessProbe"].update(failureThreshold=3), "failureThreshold"),
        (lambda m: m.objects.append(DOMAIN), "cluster local domain"),
    ],
)
def test_what_knative_refuses_is_named(change: Change, said: str) -> None:
    manifests = Manifests()
    change(manifests)
    assert said in refusals(manifests)
