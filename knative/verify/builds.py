"""What is built: each overlay alone, with each component that it can have, with each two of them, and with all."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import yaml  # type: ignore[import-untyped,unused-ignore]

from knative.verify.objects import Object
from knative.verify.tools import CHECKOUT
from stems.errors import ConfigError

_OURS = ("gpu", "sinkbinding", "ingress-tls", "network-policies", "broker-replies", "monitoring")
_PLACES = {name: f"components/{name}" for name in _OURS} | {"monitoring/operator": "components/monitoring/operator"}
# A MinIO elsewhere has its own address outside the cluster, and its own policies.
_PLACES_ELSEWHERE = {name: place for name, place in _PLACES.items() if name != "ingress-tls"}
_PLACES_ELSEWHERE["network-policies"] = "overlays/existing-minio/network-policies"
# Alone it would watch what shows nothing.
_NEEDS = {"monitoring/operator": "monitoring"}
_COMPONENTS = {"kind": _PLACES, "gke": _PLACES, "existing-minio": _PLACES_ELSEWHERE}
# The stages with manifests; code and data beside them are not copied.
_STAGES = ("knative", "minio-config", "events")
_BESIDE = shutil.ignore_patterns("*.env", "verify", "samples", "stems_relay", "__pycache__")
_TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class Build:
    """An overlay with components; `places`: their folders below knative/."""

    overlay: str
    components: tuple[str, ...]
    places: tuple[str, ...]

    def __str__(self) -> str:
        return " + ".join((self.overlay, *self.components))


def builds() -> Iterator[Build]:
    """Yield all there are."""
    for overlay, places in _COMPONENTS.items():
        for count in (0, 1, 2, len(places)):
            for chosen in combinations(places, count):
                if all(_NEEDS.get(name, name) in chosen for name in chosen):
                    yield Build(overlay, chosen, tuple(places[name] for name in chosen))


def prepare(folder: Path) -> None:
    """Copy the manifests into `folder`, with secrets of their own."""
    for stage in _STAGES:
        shutil.copytree(CHECKOUT / stage, folder / stage, ignore=_BESIDE)
    script = folder / "knative" / "secrets.sh"
    subprocess.run([str(script)], check=True, capture_output=True)


def build(kustomize: str, folder: Path, what: Build) -> list[Object]:
    """Return the objects of a build of the copy in `folder`. Raises ConfigError with what kustomize says."""
    trial = folder / "knative" / _TRIAL
    trial.mkdir(exist_ok=True)
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../overlays/{what.overlay}"],
        "components": [f"../{place}" for place in what.places],
    }
    (trial / "kustomization.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run([kustomize, "build", str(trial)], capture_output=True, text=True, check=False)
    # It warns of fields that will go: they are to be mended while they still work.
    if done.returncode or done.stderr:
        raise ConfigError(f"kustomize build of {what}: {done.stderr.strip()}")
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]
