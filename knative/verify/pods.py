"""Rules of all pods: what they may do, what they may use, what they run."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from knative.verify.objects import Object, of_kind, selects, workloads
from knative.verify.tools import CHECKOUT

# `logs` serves nothing, and its failure holds up no song.
_WITHOUT_PROBES = {"Deployment logs"}
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9)}
_UNITS |= {"Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}


def security(objects: Sequence[Object]) -> Iterator[str]:
    """Demand what the Pod Security Standard `restricted` does, and a read-only root on top."""
    for each in workloads(objects):
        pod = each.pod.get("securityContext", {})
        for container in each.containers:
            own = {**pod, **container.get("securityContext", {})}
            demands = {
                "runAsNonRoot": own.get("runAsNonRoot") is True,
                "runAsUser (a number, not 0)": own.get("runAsUser", 0) > 0,
                "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
                "allowPrivilegeEscalation: false": own.get("allowPrivilegeEscalation") is False,
                "capabilities: {drop: [ALL]}": own.get("capabilities") == {"drop": ["ALL"]},
                "seccompProfile: {type: RuntimeDefault}": own.get("seccompProfile") == {"type": "RuntimeDefault"},
            }
            yield from (f"{each}: {container['name']} lacks {name}" for name, met in demands.items() if not met)
        if each.pod.get("automountServiceAccountToken") is not False:
            yield f"{each}: automountServiceAccountToken must be false: none of ours asks the API server"
        if each.pod.get("enableServiceLinks") is not False and not each.is_function:
            yield f"{each}: enableServiceLinks must be false: it adds variables that nobody wrote"
        for volume in each.pod.get("volumes", ()):
            if "hostPath" in volume:
                yield f"{each}: the volume {volume['name']} is a folder of the node"


def resources(objects: Sequence[Object]) -> Iterator[str]:
    """Demand requests and limits of CPU and memory, none above its limit."""
    for each in workloads(objects):
        for container in each.containers:
            given = container.get("resources", {})
            for name in ("cpu", "memory"):
                low, high = given.get("requests", {}).get(name), given.get("limits", {}).get(name)
                if low is None or high is None:
                    yield f"{each}: {container['name']} has no request or no limit of {name}"
                elif amount(low) > amount(high):
                    yield f"{each}: {container['name']} asks for {low} of {name} and may have {high}"


def amount(quantity: str) -> Decimal:
    """Read a quantity of Kubernetes."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(quantity)).groups()  # type: ignore[union-attr]
    return Decimal(number) * _UNITS[unit]


def images(objects: Sequence[Object]) -> Iterator[str]:
    """Demand a version of each image, and this version of ours."""
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    for each in workloads(objects):
        for container in each.containers:
            image = container.get("image", "")
            name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
            if tag in {"", "latest"} and "@sha256:" not in image or tag == "latest":
                yield f"{each}: the image {image or '(none)'} names no version"
            elif name.startswith("stems-") and tag != version:
                yield f"{each}: the image {image} is not of version {version}"
            if container.get("imagePullPolicy") == "Always":
                yield f"{each}: a version is pulled once: no imagePullPolicy Always"


def probes(objects: Sequence[Object]) -> Iterator[str]:
    """Demand probes of what runs for ever."""
    for each in workloads(objects):
        for container in each.pod["containers"]:
            missing = {"livenessProbe", "readinessProbe"} - container.keys()
            if missing and each.kind != "Job" and str(each) not in _WITHOUT_PROBES:
                yield f"{each}: {container['name']} has no {' and no '.join(sorted(missing))}"


def mounts(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that each mount has its volume and each volume its mount."""
    for each in workloads(objects):
        claims = [claim["metadata"]["name"] for claim in each.source["spec"].get("volumeClaimTemplates", ())]
        there = {*claims, *(volume["name"] for volume in each.pod.get("volumes", ()))}
        used = {mount["name"] for container in each.containers for mount in container.get("volumeMounts", ())}
        for name in sorted(there ^ used):
            yield f"{each}: {name} is {'mounted nowhere' if name in there else 'no volume'}"


def budgets(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that each budget is about some pods and lets nodes be drained, and that what holds songs has one."""
    pods = {str(each): each.labels for each in workloads(objects)}
    covered: set[str] = set()
    for budget in of_kind(objects, "PodDisruptionBudget", "policy"):
        found = {name for name, labels in pods.items() if selects(budget["spec"]["selector"], labels)}
        covered |= found
        if len(found) != 1:
            yield f"PodDisruptionBudget {budget['metadata']['name']} is about {len(found)} workloads"
        if not _gives_way(budget["spec"]):
            yield f"PodDisruptionBudget {budget['metadata']['name']} keeps a node from ever being drained"
    holders = {name for name in pods if name.startswith("StatefulSet ")} | {"Deployment relay", "Function separate"}
    yield from (f"{name}: no PodDisruptionBudget" for name in sorted(holders & pods.keys() - covered))


def _gives_way(budget: Mapping[str, Any]) -> bool:
    return "minAvailable" not in budget and budget.get("maxUnavailable") not in {0, "0", "0%"}


RULES = (security, resources, images, probes, mounts, budgets)
