"""Rules of what leads to pods: Services and NetworkPolicies that are about some, everything in one namespace."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from knative.verify.objects import Object, called, of_kind, plain_env, selects, workloads

_CLUSTER_WIDE = {"Namespace"}


def services(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that each Service leads to a port of some pod."""
    for service in of_kind(objects, "Service"):
        selector = {"matchLabels": service["spec"].get("selector", {})}
        found = [each for each in workloads(objects) if selects(selector, each.labels)]
        if len(found) != 1 or not selector["matchLabels"]:
            yield f"Service {service['metadata']['name']} is about {len(found)} workloads"
            continue
        ports = {port["name"] for container in found[0].containers for port in container.get("ports", ())}
        for port in service["spec"]["ports"]:
            if port.get("targetPort") not in ports:
                yield f"Service {service['metadata']['name']}: {found[0]} has no port {port.get('targetPort')}"


def policies(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that each NetworkPolicy is about some pods, here and at the other end, and that the rest is denied."""
    pods = list(workloads(objects))
    found = list(of_kind(objects, "NetworkPolicy", "networking.k8s.io"))
    for policy in found:
        for selector in _selectors(policy["spec"]):
            for part in alternatives(selector):
                if not any(selects(part, each.labels) for each in pods):
                    yield f"{called(policy)}: no pod is {part}"
    denied = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if found and not any(policy["spec"] == denied for policy in found):
        yield "there are NetworkPolicies, but none that denies what they do not allow"


def _selectors(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield spec["podSelector"]
    ends = [end for rule in spec.get("ingress", ()) for end in rule.get("from", ())]
    ends += [end for rule in spec.get("egress", ()) for end in rule.get("to", ())]
    yield from (end["podSelector"] for end in ends if "podSelector" in end and "namespaceSelector" not in end)


def alternatives(selector: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a selector for each value of an `In`: a list with one wrong name selects the others all the same."""
    listed = [rule for rule in selector.get("matchExpressions", ()) if rule["operator"] == "In"]
    if not listed:
        yield selector
    for rule in listed:
        yield from ({"matchLabels": {rule["key"]: value}} for value in rule["values"])


def namespaces(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that all objects are in the namespace that is made for them."""
    made = {each["metadata"]["name"] for each in of_kind(objects, "Namespace")}
    for each in objects:
        if each["kind"] not in _CLUSTER_WIDE and each["metadata"].get("namespace") not in made:
            yield f"{called(each)} is in the namespace {each['metadata'].get('namespace')}, which nobody makes"


def addresses(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that a short host name in a setting is a Service of ours, at a port that it has."""
    ports = {each["metadata"]["name"]: _ports(each) for each in of_kind(objects, "Service")}
    told = [(str(each), plain_env(container)) for each in workloads(objects) for container in each.containers]
    told += [(called(each), dict(each.get("data", {}))) for each in of_kind(objects, "ConfigMap")]
    for where, values in told:
        for name, value in values.items():
            if not (name.endswith(("_ENDPOINT", "_URL")) or "_ADDRESS_" in name):
                continue
            parts = urlsplit(value if "://" in value else f"//{value}")
            if parts.hostname and "." not in parts.hostname and parts.port not in ports.get(parts.hostname, ()):
                yield f"{where}: {name}: no Service {parts.hostname} with port {parts.port}"


def _ports(service: Object) -> set[int]:
    return {port["port"] for port in service["spec"]["ports"]}


RULES = (services, policies, namespaces, addresses)
