"""Built objects, and the pods that they make: what the rules look at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
KNATIVE_SERVICE = "serving.knative.dev/v1"


@dataclass(frozen=True, slots=True)
class Workload:
    """An object that makes pods. `pod`: their spec; `labels` and `annotations`: theirs, not the object's."""

    kind: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    pod: Mapping[str, Any]
    source: Object

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def is_function(self) -> bool:
        """Tell whether it is a Knative Service."""
        return self.kind == "Function"

    @property
    def containers(self) -> Sequence[Mapping[str, Any]]:
        """All containers, those that come first included."""
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]


def workloads(objects: Iterable[Object]) -> Iterator[Workload]:
    """Yield the objects that make pods."""
    for each in objects:
        kind = "Function" if each["apiVersion"] == KNATIVE_SERVICE and each["kind"] == "Service" else each["kind"]
        if kind in {"Deployment", "StatefulSet", "DaemonSet", "Job", "Function"}:
            template = each["spec"]["template"]
            meta = template.get("metadata", {})
            yield Workload(
                kind,
                each["metadata"]["name"],
                meta.get("labels", {}),
                meta.get("annotations", {}),
                template["spec"],
                each,
            )


def of_kind(objects: Iterable[Object], kind: str, group: str = "") -> Iterator[Object]:
    """Yield the objects of a kind; `group`: the part of apiVersion before the slash, empty for the core."""
    for each in objects:
        if each["kind"] == kind and each["apiVersion"].rpartition("/")[0] == group:
            yield each


def called(each: Object) -> str:
    """Return what to call an object in a complaint."""
    return f"{each['kind']} {each['metadata']['name']}"


def plain_env(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a container that stand in the manifest itself."""
    return {each["name"]: str(each["value"]) for each in container.get("env", ()) if "value" in each}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector of Kubernetes takes these labels; an empty one takes all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", ()):
        value = labels.get(rule["key"])
        fits = {
            "In": value in rule.get("values", ()),
            "NotIn": value not in rule.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits[rule["operator"]]:
            return False
    return True
