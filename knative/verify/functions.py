"""Rules of Knative Services: what a default Knative refuses or does with them, and the relay that calls one."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from knative.verify.objects import KNATIVE_SERVICE, Object, Workload, of_kind, plain_env, workloads
from knative.verify.tools import CHECKOUT

_SCALE = "autoscaling.knative.dev/"
# More is refused unless the operator raised max-revision-timeout-seconds.
_LONGEST_S = 600
# What is left of a pod where no feature flag of config-features is set (serving, pkg/apis/serving/fieldmask.go).
_POD = {"automountServiceAccountToken", "containers", "enableServiceLinks", "imagePullSecrets", "serviceAccountName"}
_POD |= {"volumes", "containerConcurrency", "idleTimeoutSeconds", "responseStartTimeoutSeconds", "timeoutSeconds"}
_CONTAINER = {"args", "command", "env", "envFrom", "image", "imagePullPolicy", "livenessProbe", "name", "ports"}
_CONTAINER |= {"readinessProbe", "resources", "securityContext", "startupProbe", "volumeMounts", "workingDir"}
_CONTAINER |= {"terminationMessagePath", "terminationMessagePolicy"}
_SECURITY = {"allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot"}
_SECURITY |= {"runAsUser", "seccompProfile"}
_BROKERS = "broker-ingress.knative-eventing.svc.cluster.local"
_VOLUME = {"name", "configMap", "emptyDir", "projected", "secret"}


def _functions(objects: Sequence[Object]) -> Iterator[Workload]:
    return (each for each in workloads(objects) if each.is_function)


def timeouts(objects: Sequence[Object]) -> Iterator[str]:
    """Demand both timeouts, and equal: the one that is left out is 300 s."""
    for each in _functions(objects):
        whole, start = each.pod.get("timeoutSeconds"), each.pod.get("responseStartTimeoutSeconds")
        if whole is None or whole != start:
            yield f"{each}: timeoutSeconds {whole} and responseStartTimeoutSeconds {start} are not one number"
        elif whole > _LONGEST_S:
            yield f"{each}: timeoutSeconds {whole}: a default cluster allows {_LONGEST_S}"


def scale(objects: Sequence[Object]) -> Iterator[str]:
    """Demand a bound on pods, and annotations where Knative reads them."""
    for each in _functions(objects):
        if not re.fullmatch(r"[1-9]\d*", each.annotations.get(f"{_SCALE}max-scale", "")):
            yield f"{each}: no max-scale: it may have any number of pods"
        if any(name.startswith(_SCALE) for name in each.source["metadata"].get("annotations", {})):
            yield f"{each}: autoscaling annotations belong to the template; here nobody reads them"


def concurrency(objects: Sequence[Object]) -> Iterator[str]:
    """Demand fewer requests at a time than the server has threads, and one pod for one song.

    A function may see to the first itself, by limits of its own.
    """
    for each in _functions(objects):
        limit = each.pod.get("containerConcurrency", 0)
        folder = CHECKOUT / "functions" / "stems" / each.name
        threads = int(re.findall(r"^threads = (\d+)", (folder / "gunicorn.conf.py").read_text(), re.MULTILINE)[0])
        own = folder / "limits.py"
        own_limits = re.findall(r"^[A-Z]+ = (\d+)", own.read_text(), re.MULTILINE) if own.exists() else []
        if not 0 < (limit or sum(map(int, own_limits))) < threads:
            yield f"{each}: containerConcurrency {limit}: from 1 to {threads - 1}, so that a thread is left for probes"
        target = (
            each.annotations.get(f"{_SCALE}target"),
            each.annotations.get(f"{_SCALE}target-utilization-percentage"),
        )
        if limit == 1 and target != ("1", "100"):
            yield f"{each}: target and target-utilization-percentage must be 1 and 100: else two pods for one song"


def forbidden(objects: Sequence[Object]) -> Iterator[str]:
    """Forbid what a Knative refuses whose feature flags are as they come."""
    for each in _functions(objects):
        yield from _beyond(each, "the pod", each.pod, _POD)
        for volume in each.pod.get("volumes", ()):
            yield from _beyond(each, f"the volume {volume['name']}", volume, _VOLUME)
        for container in each.pod["containers"]:
            yield from _beyond(each, "the container", container, _CONTAINER)
            security = container.get("securityContext", {})
            yield from _beyond(each, "securityContext", security, _SECURITY)
            yield from _beyond(each, "capabilities", security.get("capabilities", {}), {"drop"})
            for env in container.get("env", ()):
                yield from _beyond(each, env["name"], env.get("valueFrom", {}), {"configMapKeyRef", "secretKeyRef"})


def _beyond(function: Workload, where: str, given: Any, allowed: set[str]) -> Iterator[str]:
    if more := sorted(given.keys() - allowed):
        yield f"{function}: a default Knative refuses {', '.join(more)} in {where}"


def relay(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that the relay's limits are those of `separate`, and that it is told of it in one way."""
    found = {str(each): each for each in workloads(objects)}
    caller, sink = found.get("Deployment relay"), found.get("Function separate")
    if caller is None or sink is None:
        yield "there is no relay or no function separate"
        return
    env = plain_env(caller.containers[0])
    pairs = {
        "STEMS_MAX_IN_FLIGHT": str(sink.annotations.get(f"{_SCALE}max-scale")),
        "STEMS_DELIVERY_TIMEOUT_S": str(sink.pod.get("timeoutSeconds")),
    }
    for name, value in pairs.items():
        if env.get(name) != value:
            yield f"{caller}: {name} is {env.get(name)}, but separate has {value}"
    if caller.source["spec"].get("replicas") != 1:
        yield f"{caller}: each replica delivers {env.get('STEMS_MAX_IN_FLIGHT')} songs at a time: one replica"
    if sink.source["metadata"].get("labels", {}).get("networking.knative.dev/visibility") != "cluster-local":
        yield f"{sink}: it can be called from outside the cluster"
    bindings = [each["spec"]["sink"].get("ref") for each in of_kind(objects, "SinkBinding", "sources.knative.dev")]
    if ("K_SINK" in env) + len(bindings) != 1:
        plain = "a" if "K_SINK" in env else "no"
        yield f"{caller}: K_SINK comes from {len(bindings)} SinkBindings and {plain} variable"
    space = sink.source["metadata"]["namespace"]
    if "K_SINK" in env and urlsplit(env["K_SINK"]).hostname != f"separate.{space}.svc.cluster.local":
        yield f"{caller}: K_SINK {env['K_SINK']} is not the function separate"
    for ref in bindings:
        wanted = {"apiVersion": KNATIVE_SERVICE, "kind": "Service", "namespace": space, "name": "separate"}
        if ref != wanted:
            yield f"SinkBinding: its sink {ref} is not the function separate"


def replies(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that the Broker to which the relay sends replies is there, at the address of Knative's default class."""
    brokers = {
        f"/{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in of_kind(objects, "Broker", "eventing.knative.dev")
    }
    for each in workloads(objects):
        sink = plain_env(each.containers[0]).get("STEMS_REPLY_SINK", "")
        parts = urlsplit(sink)
        if parts.hostname == _BROKERS and parts.path not in brokers:
            yield f"{each}: STEMS_REPLY_SINK {sink} is no Broker of ours"


def threads(objects: Sequence[Object]) -> Iterator[str]:
    """Demand as many threads of torch as the limit of CPU allows: more would be throttled, fewer leave it idle."""
    for each in _functions(objects):
        told = plain_env(each.containers[0]).get("OMP_NUM_THREADS")
        allowed = each.containers[0].get("resources", {}).get("limits", {}).get("cpu")
        if each.name == "separate" and told != str(allowed):
            yield f"{each}: OMP_NUM_THREADS is {told} and the limit of cpu {allowed}"


RULES = (timeouts, scale, concurrency, forbidden, relay, replies, threads)
