"""Each rule about manifests passes ours, and catches a fault that is planted in them."""

from collections.abc import Callable
from typing import Any

import pytest

from knative.verify import functions, monitoring, network, pods, policy, settings
from knative.verify.policy import Rule
from tests.manifests import Fault, Manifests

SCALE = "autoscaling.knative.dev/"
SINK = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "namespace": "stems"}


def put(reach: Callable[[Manifests], dict[str, Any]], **values: Any) -> Fault:
    """Return a fault: these values at that place; None takes one away."""

    def plant(manifests: Manifests) -> None:
        place = reach(manifests)
        for name, value in values.items():
            place.pop(name, None)
            if value is not None:
                place[name] = value

    return plant


def annotate(function: str, name: str, value: str | None) -> Fault:
    return put(lambda m: m.template(function)["metadata"]["annotations"], **{SCALE + name: value})


def spec(name: str, /, **values: Any) -> Fault:
    return put(lambda m: m.pod(name), **values)


def container(name: str, /, **values: Any) -> Fault:
    return put(lambda m: m.container(name), **values)


def secure(name: str, /, **values: Any) -> Fault:
    return put(lambda m: m.container(name)["securityContext"], **values)


def variable(name: str, variable: str, /, **values: Any) -> Fault:
    return put(lambda m: m.env(name, variable), **values)


def more_env(name: str, /, **env: Any) -> Fault:
    return lambda m: m.container(name)["env"].append(env)


def without_env(name: str, variable: str) -> Fault:
    return lambda m: m.container(name)["env"].remove(m.env(name, variable))


def more_volume(name: str, /, **volume: Any) -> Fault:
    return lambda m: m.pod(name).setdefault("volumes", []).append(volume)


def within(kind: str, name: str, *path: Any) -> Callable[[Manifests], dict[str, Any]]:
    def reach(manifests: Manifests) -> dict[str, Any]:
        place: Any = manifests.get(kind, name)
        for step in path:
            place = place[step]
        found: dict[str, Any] = place
        return found

    return reach


def bind(name: str) -> Fault:
    made = {"kind": "SinkBinding", "apiVersion": "sources.knative.dev/v1", "metadata": {"name": "relay"}}
    made["spec"] = {"sink": {"ref": {**SINK, "name": name}}}
    return lambda m: m.objects.append(made)


def without(kind: str, name: str) -> Fault:
    return lambda m: m.objects.remove(m.get(kind, name))


def both(*faults: Fault) -> Fault:
    def plant(manifests: Manifests) -> None:
        for fault in faults:
            fault(manifests)

    return plant


FAULTS: list[tuple[Rule, Fault, str]] = [
    (functions.timeouts, spec("separate", responseStartTimeoutSeconds=None), "not one number"),
    (functions.timeouts, spec("tracks", responseStartTimeoutSeconds=300), "not one number"),
    (functions.timeouts, spec("separate", timeoutSeconds=900, responseStartTimeoutSeconds=900), "allows 600"),
    (functions.scale, annotate("separate", "max-scale", None), "no max-scale"),
    (functions.scale, annotate("tracks", "max-scale", "0"), "no max-scale"),
    (
        functions.scale,
        put(within("Function", "tracks", "metadata"), annotations={SCALE + "min-scale": "0"}),
        "belong to the template",
    ),
    (functions.concurrency, spec("separate", containerConcurrency=None), "from 1 to 7"),
    (functions.concurrency, spec("tracks", containerConcurrency=64), "from 1 to 63"),
    (functions.concurrency, annotate("separate", "target-utilization-percentage", None), "two pods for one song"),
    (functions.concurrency, annotate("separate", "target", "2"), "two pods for one song"),
    (functions.forbidden, spec("separate", initContainers=[]), "initContainers"),
    (functions.forbidden, spec("separate", securityContext={"fsGroup": 1}), "securityContext in the pod"),
    (functions.forbidden, spec("separate", nodeSelector={"gpu": "yes"}), "nodeSelector"),
    (functions.forbidden, spec("separate", tolerations=[]), "tolerations"),
    (functions.forbidden, spec("separate", affinity={}), "affinity"),
    (functions.forbidden, spec("separate", topologySpreadConstraints=[]), "topologySpreadConstraints"),
    (functions.forbidden, spec("separate", terminationGracePeriodSeconds=9), "terminationGracePeriodSeconds"),
    (
        functions.forbidden,
        more_volume("separate", name="models", persistentVolumeClaim={"claimName": "m"}),
        "persistentVolumeClaim in the volume models",
    ),
    (functions.forbidden, container("tracks", lifecycle={}), "lifecycle"),
    (functions.forbidden, secure("tracks", privileged=True), "privileged"),
    (functions.forbidden, secure("tracks", capabilities={"drop": ["ALL"], "add": ["SYS_NICE"]}), "refuses add"),
    (
        functions.forbidden,
        more_env("tracks", name="POD", valueFrom={"fieldRef": {"fieldPath": "metadata.name"}}),
        "fieldRef in POD",
    ),
    (functions.relay, annotate("separate", "max-scale", "5"), "STEMS_MAX_IN_FLIGHT is 4, but separate has 5"),
    (functions.relay, variable("relay", "STEMS_MAX_IN_FLIGHT", value="8"), "is 8, but separate has 4"),
    (functions.relay, variable("relay", "STEMS_DELIVERY_TIMEOUT_S", value="300"), "is 300, but separate has 600"),
    (functions.relay, put(within("Deployment", "relay", "spec"), replicas=2), "one replica"),
    (functions.relay, put(within("Function", "separate", "metadata"), labels={}), "from outside"),
    (
        functions.relay,
        variable("relay", "K_SINK", value="http://separate.other.svc.cluster.local"),
        "is not the function",
    ),
    (functions.relay, without_env("relay", "K_SINK"), "0 SinkBindings and no variable"),
    (functions.relay, bind("separate"), "1 SinkBindings and a variable"),
    (functions.relay, both(without_env("relay", "K_SINK"), bind("tracks")), "its sink"),
    (functions.relay, without("Deployment", "relay"), "there is no relay"),
    (functions.replies, without("Broker", "replies"), "is no Broker of ours"),
    (functions.threads, variable("separate", "OMP_NUM_THREADS", value="8"), "OMP_NUM_THREADS is 8"),
    (pods.security, secure("separate", runAsNonRoot=None), "separate lacks runAsNonRoot"),
    (pods.security, secure("relay", runAsUser=0), "relay lacks runAsUser"),
    (pods.security, secure("minio", readOnlyRootFilesystem=None), "minio lacks readOnlyRootFilesystem"),
    (pods.security, secure("redis", allowPrivilegeEscalation=True), "redis lacks allowPrivilegeEscalation"),
    (pods.security, secure("tracks", capabilities=None), "tracks lacks capabilities"),
    (pods.security, secure("tracks", seccompProfile=None), "tracks lacks seccompProfile"),
    (pods.security, spec("logs", automountServiceAccountToken=None), "automountServiceAccountToken"),
    (pods.security, spec("minio", enableServiceLinks=None), "enableServiceLinks"),
    (pods.security, more_volume("minio", name="disk", hostPath={"path": "/"}), "a folder of the node"),
    (pods.resources, container("minio-setup", resources={}), "no request or no limit of cpu"),
    (
        pods.resources,
        put(lambda m: m.container("relay")["resources"]["requests"], memory="1Gi"),
        "asks for 1Gi of memory and may have 256Mi",
    ),
    (pods.images, container("relay", image="stems-relay"), "names no version"),
    (pods.images, container("minio", image="docker.io/pgsty/silo:latest"), "names no version"),
    (pods.images, container("minio", image="localhost:5000/silo"), "names no version"),
    (pods.images, container("tracks", image="example.com/stems-tracks:0.0.1"), "is not of version"),
    (pods.images, container("tracks", imagePullPolicy="Always"), "Always"),
    (pods.probes, container("redis", livenessProbe=None), "no livenessProbe"),
    (pods.probes, container("separate", readinessProbe=None), "no readinessProbe"),
    (pods.mounts, more_volume("relay", name="spare", emptyDir={}), "spare is mounted nowhere"),
    (pods.mounts, spec("separate", volumes=[]), "scratch is no volume"),
    (pods.budgets, without("PodDisruptionBudget", "minio"), "StatefulSet minio: no PodDisruptionBudget"),
    (
        pods.budgets,
        put(within("PodDisruptionBudget", "relay", "spec", "selector"), matchLabels={"app.kubernetes.io/name": "rely"}),
        "about 0 workloads",
    ),
    (pods.budgets, put(within("PodDisruptionBudget", "redis", "spec"), maxUnavailable=0), "ever being drained"),
    (settings.known, more_env("relay", name="STEMS_MAX_INFLIGHT", value="4"), "no setting STEMS_MAX_INFLIGHT"),
    (
        settings.known,
        more_env("minio", name="MINIO_NOTIFY_WEBHOOK_ENABLE_X", value="on"),
        "no setting MINIO_NOTIFY_WEB",
    ),
    (
        settings.known,
        put(within("ConfigMap", "settings", "data"), STEMS_S3_ENDPIONT="http://minio:9000"),
        "no setting STEMS_S3_ENDPIONT",
    ),
    (settings.known, without_env("relay", "REDIS_PASSWORD"), "made of REDIS_PASSWORD"),
    (settings.valid, variable("relay", "K_SINK", value="separate.stems"), "K_SINK='separate.stems'"),
    (settings.valid, variable("separate", "STEMS_MAX_DURATION_S", value="15 min"), "STEMS_MAX_DURATION_S"),
    (settings.valid, put(within("ConfigMap", "settings", "data"), STEMS_LOG_LEVEL="LOUD"), "STEMS_LOG_LEVEL"),
    (settings.secrets, more_env("relay", name="STEMS_S3_SECRET_KEY", value="hunter22"), "take it from a Secret"),
    (
        settings.secrets,
        variable("tracks", "STEMS_REDIS_URL", value="redis://:pw@redis:6379/0"),
        "take it from a Secret",
    ),
    (settings.secrets, put(within("ConfigMap", "settings", "data"), MINIO_ROOT_PASSWORD="x"), "into a Secret"),
    (settings.secrets, container("redis", command=["x", "redis://:pw@redis"]), "stands in the command"),
    (settings.references, without("Secret", "redis"), "there is no Secret redis"),
    (settings.references, put(within("Secret", "minio-users"), data={}), "has no STEMS_RELAY_SECRET_KEY"),
    (settings.references, without("ConfigMap", "settings"), "there is no ConfigMap settings"),
    (settings.references, put(within("ConfigMap", "minio-config", "data"), **{"apply.py": None}), "wants what no"),
    (network.services, put(within("Service", "minio", "spec"), selector={"app": "minio"}), "is about 0 workloads"),
    (network.services, container("redis", ports=[]), "has no port redis"),
    (
        network.policies,
        put(
            within("NetworkPolicy", "redis", "spec", "ingress", 0),
            **{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]},
        ),
        "no pod is",
    ),
    (
        network.policies,
        put(lambda m: m.template("logs")["metadata"]["labels"], **{"app.kubernetes.io/name": "log"}),
        "no pod is",
    ),
    (network.policies, without("NetworkPolicy", "deny-all"), "none that denies"),
    (network.namespaces, put(within("Service", "redis", "metadata"), namespace="default"), "namespace default"),
    (
        network.addresses,
        put(within("ConfigMap", "settings", "data"), STEMS_S3_ENDPOINT="http://minio"),
        "no Service minio",
    ),
    (network.addresses, variable("minio", "MINIO_NOTIFY_REDIS_ADDRESS_FAST", value="radis:6379"), "no Service radis"),
    (
        monitoring.annotations,
        put(within("ConfigMap", "settings", "data"), STEMS_METRICS_PORT="9091"),
        "9091 is Knative's own",
    ),
    (monitoring.annotations, put(within("ConfigMap", "settings", "data"), STEMS_METRICS_PORT=None), "on port (none)"),
    (
        monitoring.annotations,
        put(lambda m: m.template("separate")["metadata"]["annotations"], **{"prometheus.io/scrape": None}),
        "Function separate: it shows its metrics on port 9464 and says (none)",
    ),
    (monitoring.monitors, container("relay", ports=[]), "Deployment relay has no port metrics 9464"),
    (
        monitoring.monitors,
        put(within("PodMonitor", "stems", "spec", "podMetricsEndpoints", 1, "relabelings", 0), replacement="$1:9090"),
        "it asks at $1:9090",
    ),
    (
        monitoring.monitors,
        put(within("PodMonitor", "stems", "spec"), selector={"matchLabels": {"app.kubernetes.io/name": "relai"}}),
        "no pod is",
    ),
    (
        monitoring.policies,
        put(within("NetworkPolicy", "monitoring", "spec", "ingress", 0, "ports", 0), port=9999),
        "it lets 9999 through",
    ),
]


@pytest.mark.parametrize("rule", policy.RULES, ids=lambda rule: rule.__name__)
def test_ours_are_without_fault(rule: Rule) -> None:
    assert list(rule(Manifests().objects)) == []


@pytest.mark.parametrize(("rule", "fault", "said"), FAULTS, ids=[f"{rule.__name__}-{said}" for rule, _, said in FAULTS])
def test_a_planted_fault_is_caught(rule: Rule, fault: Fault, said: str) -> None:
    manifests = Manifests()
    fault(manifests)
    assert any(said in line for line in rule(manifests.objects)), list(rule(manifests.objects))


def test_each_rule_has_a_fault() -> None:
    assert {rule for rule, _, _ in FAULTS} == set(policy.RULES)
