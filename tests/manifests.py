"""The manifests as tests plant faults in them: read as they are, with what kustomize would add."""

import tomllib
from collections.abc import Callable
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from tests.programs import CHECKOUT

VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
Fault = Callable[["Manifests"], None]

_FILES = (
    "minio-config/server.yaml",
    "minio-config/setup.yaml",
    "events/redis.yaml",
    "events/relay.yaml",
    "events/logs.yaml",
    "knative/base/namespace.yaml",
    "knative/base/separate.yaml",
    "knative/base/tracks.yaml",
    "knative/components/network-policies/default.yaml",
    "knative/components/network-policies/stores.yaml",
    "knative/components/network-policies/functions.yaml",
    "knative/components/network-policies/clients.yaml",
    "knative/components/monitoring/operator/podmonitor.yaml",
    "knative/components/monitoring/operator/alerts.yaml",
    "knative/components/broker-replies/broker.yaml",
)
_MADE = """
{apiVersion: v1, kind: Secret, metadata: {name: minio-root}, data: {MINIO_ROOT_USER: eA==, MINIO_ROOT_PASSWORD: eA==}}
---
apiVersion: v1
kind: Secret
metadata: {name: redis}
data:
  REDIS_MINIO_PASSWORD: eA==
  REDIS_RELAY_PASSWORD: eA==
  REDIS_SEPARATE_PASSWORD: eA==
  REDIS_TRACKS_PASSWORD: eA==
  REDIS_LOGS_PASSWORD: eA==
  REDIS_ADMIN_PASSWORD: eA==
---
{apiVersion: v1, kind: Secret, metadata: {name: sink}, data: {STEMS_SINK_SECRET: eA==}}
---
{apiVersion: v1, kind: Secret, metadata: {name: tokens}, data: {tokens: eA==}}
---
{apiVersion: v1, kind: Secret, metadata: {name: callback}, data: {STEMS_CALLBACK_SECRET: eA==}}
---
apiVersion: v1
kind: Secret
metadata: {name: minio-users}
data:
  STEMS_SEPARATE_SECRET_KEY: eA==
  STEMS_TRACKS_SECRET_KEY: eA==
  STEMS_RELAY_SECRET_KEY: eA==
  STEMS_UPLOADER_SECRET_KEY: eA==
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {STEMS_S3_ENDPOINT: 'http://minio:9000', STEMS_METRICS_PORT: '9464'}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: redis-config}, data: {redis.conf: '', redis.sh: '', users.conf: ''}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: minio-config}
data: {apply.py: '', relay.json: '', separate.json: '', tracks.json: '', uploader.json: ''}
"""


class Manifests:
    """All objects, and ways to reach into them."""

    def __init__(self) -> None:
        texts = [(CHECKOUT / name).read_text() for name in _FILES]
        parsed = (yaml.load_all(text, yaml.CSafeLoader) for text in (*texts, _MADE))
        self.objects: list[dict[str, Any]] = [each for objects in parsed for each in objects]
        for each in self.objects:
            if each["kind"] != "Namespace":
                each["metadata"]["namespace"] = "stems"
        for name in ("relay", "separate", "tracks", "minio-setup", "logs", "minio", "redis"):
            self.container(name)["image"] += f":{VERSION}"
        self.env("relay", "STEMS_MAX_IN_FLIGHT")["value"] = "4"
        # What the components monitoring and broker-replies patch in.
        for name in ("relay", "separate", "tracks"):
            asked = {"prometheus.io/scrape": "true", "prometheus.io/port": "9464"}
            self.template(name)["metadata"].setdefault("annotations", {}).update(asked)
        self.container("relay")["ports"] = [{"name": "metrics", "containerPort": 9464}]
        replies = "http://broker-ingress.knative-eventing.svc.cluster.local/stems/replies"
        self.container("relay")["env"].append({"name": "STEMS_REPLY_SINK", "value": replies})

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object; `Function` is a Knative Service, `Service` one of Kubernetes."""
        wanted = ("Service", True) if kind == "Function" else (kind, False)
        for each in self.objects:
            function = each["apiVersion"] == "serving.knative.dev/v1"
            if (each["kind"], function) == wanted and each["metadata"]["name"] == name:
                return each
        raise KeyError(f"{kind} {name}")

    def workload(self, name: str) -> dict[str, Any]:
        """Return the object that makes the pods of this name."""
        for kind in ("Function", "StatefulSet", "Deployment", "Job"):
            try:
                return self.get(kind, name)
            except KeyError:
                continue
        raise KeyError(name)

    def template(self, name: str) -> dict[str, Any]:
        """Return the template of the pods of this name."""
        found: dict[str, Any] = self.workload(name)["spec"]["template"]
        return found

    def pod(self, name: str) -> dict[str, Any]:
        """Return the spec of the pods of this name."""
        found: dict[str, Any] = self.template(name)["spec"]
        return found

    def container(self, name: str) -> dict[str, Any]:
        """Return the container of the pods of this name."""
        found: dict[str, Any] = self.pod(name)["containers"][0]
        return found

    def env(self, name: str, variable: str) -> dict[str, Any]:
        """Return a variable of the container of the pods of this name."""
        found: dict[str, Any] = next(each for each in self.container(name)["env"] if each["name"] == variable)
        return found
