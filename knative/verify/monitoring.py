"""Rules of metrics: one port for all parts, which Knative does not use and at which Prometheus asks."""

from collections.abc import Iterator, Sequence

from knative.verify.network import alternatives
from knative.verify.objects import Object, called, of_kind, selects, workloads

_PARTS = {"relay", "separate", "tracks"}
# Of the functions' requests, and of Knative's queue-proxy beside them.
_TAKEN = {"8080", "8008", "8012", "8013", "8022", "8112", "9090", "9091"}


def _port(objects: Sequence[Object]) -> str:
    """Return the port at which all parts show their metrics, or nothing."""
    for each in of_kind(objects, "ConfigMap"):
        if each["metadata"]["name"].startswith("settings"):
            return str(each["data"].get("STEMS_METRICS_PORT", "")).removeprefix("0")
    return ""


def annotations(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that the pods say at which port they show their metrics."""
    port = _port(objects)
    if port in _TAKEN:
        yield f"STEMS_METRICS_PORT {port} is Knative's own, or that of the requests"
    for each in workloads(objects):
        told = each.annotations.get("prometheus.io/port", "") if "prometheus.io/scrape" in each.annotations else ""
        if each.name in _PARTS and told != port:
            yield f"{each}: it shows its metrics on port {port or '(none)'} and says {told or '(none)'}"


def monitors(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that a PodMonitor finds pods, each at that port: by its name, or for a function by a new address."""
    port, pods = _port(objects), list(workloads(objects))
    for monitor in of_kind(objects, "PodMonitor", "monitoring.coreos.com"):
        selector = monitor["spec"]["selector"]
        for part in alternatives(selector):
            if not any(selects(part, each.labels) for each in pods):
                yield f"{called(monitor)}: no pod is {part}"
        for each in (each for each in pods if selects(selector, each.labels) and not each.is_function):
            ports = {named.get("name"): named["containerPort"] for named in each.containers[0].get("ports", ())}
            if str(ports.get("metrics")) != port:
                yield f"{called(monitor)}: {each} has no port metrics {port}"
        for rule in (rule for end in monitor["spec"]["podMetricsEndpoints"] for rule in end.get("relabelings", ())):
            if rule["replacement"] != f"$1:{port}":
                yield f"{called(monitor)}: it asks at {rule['replacement']}, not at port {port}"


def policies(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that the NetworkPolicy `monitoring` lets that port through."""
    port = _port(objects)
    for policy in of_kind(objects, "NetworkPolicy", "networking.k8s.io"):
        if policy["metadata"]["name"] == "monitoring" and port:
            let = [str(end["port"]) for rule in policy["spec"]["ingress"] for end in rule["ports"]]
            if let != [port]:
                yield f"{called(policy)}: it lets {', '.join(let)} through, not {port}"


RULES = (annotations, monitors, policies)
