"""The API server and Knative's webhook take every overlay with every set of components: nothing is applied."""

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knative.verify.builds import Build, build, builds, prepare
from knative.verify.objects import KNATIVE_SERVICE, Object
from tests.cluster.conftest import Say
from tests.cluster.space import Space, need_cluster
from tests.programs import need

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
# Of Knative Eventing and the prometheus-operator, which a cluster need not have.
OPTIONAL = {"sources.knative.dev", "eventing.knative.dev", "monitoring.coreos.com"}
MODES = ("enforce", "warn")


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    need_cluster()
    space = Space(f"stems-dry-{secrets.token_hex(3)}")
    space.kubectl("create", "namespace", space.name)
    # As base/namespace.yaml has it: `warn` speaks of pods that workloads will make.
    space.kubectl(
        "label", "namespace", space.name, *(f"pod-security.kubernetes.io/{mode}=restricted" for mode in MODES)
    )
    yield space
    space.kubectl("delete", "namespace", space.name, "--wait=false")


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifests")
    prepare(folder)
    return folder


@pytest.mark.parametrize("what", list(builds()), ids=str)
def test_the_servers_take_it(space: Space, manifests: Path, what: Build, say: Say) -> None:
    here = [within(space, each) for each in build(need("kustomize"), manifests, what) if each["kind"] != "Namespace"]
    missing = OPTIONAL - {line.partition("/")[0] for line in space.kubectl("api-versions").splitlines()}
    left_out = [each for each in here if each["apiVersion"].partition("/")[0] in missing]
    here = [each for each in here if each not in left_out]
    said = applied(space, here)
    kinds = ", ".join(sorted({each["kind"] for each in left_out}))
    say(f"{what}: {len(here)} objects{', without ' + kinds if kinds else ''}")
    assert Counter(line.endswith("(server dry run)") for line in said) == {True: len(here)}, said


def test_a_fault_is_told(space: Space, manifests: Path) -> None:
    objects = build(need("kustomize"), manifests, next(builds()))
    (function,) = (
        within(space, each)
        for each in objects
        if each["apiVersion"] == KNATIVE_SERVICE and each["metadata"]["name"] == "separate"
    )
    function["spec"]["template"]["spec"]["containerConcurrency"] = -1
    with pytest.raises(AssertionError, match="containerConcurrency"):
        applied(space, [function])


def within(space: Space, each: Object) -> dict[str, Any]:
    """Return the object as one of our namespace."""
    return {**each, "metadata": {**each["metadata"], "namespace": space.name}}


def applied(space: Space, objects: list[dict[str, Any]]) -> list[str]:
    """Return what kubectl says of each object; warnings are errors."""
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    command = ("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-")
    return space.kubectl(*command, given=given).splitlines()
