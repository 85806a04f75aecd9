"""The service on the cluster, put there and forwarded by knative/deploy-local-dev.sh from a copy of the manifests."""

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import redis
import urllib3
import yaml  # type: ignore[import-untyped,unused-ignore]
from minio.error import MinioException

from knative.verify.builds import prepare
from stems import naming
from stems.config import Settings, environment
from tests.cluster.space import Space
from tests.pipeline import Hands, wait_for
from tests.programs import need
from tests.servers import free_port

# A folder with a kustomize Component: what is special about the cluster.
COMPONENT = "STEMS_TEST_COMPONENT"
OVERLAY = "test"
ONCE = (1, 1)
START_S = 600


class Deployment:
    """The service in a namespace of its own; `folder` takes the copy, with the secrets and a log of the script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.space = Space(f"stems-test-{secrets.token_hex(3)}")
        self.ports = {name: free_port() for name in ("MINIO_PORT", "REDIS_PORT", "TRACKS_PORT")}
        self._script: subprocess.Popen[bytes] | None = None
        prepare(folder)
        self._write_overlay()

    @property
    def overlay(self) -> Path:
        """The overlay kind, in our namespace, with ports of ours and with what the cluster needs."""
        return self.folder / "knative" / "overlays" / OVERLAY

    def _write_overlay(self) -> None:
        shutil.copytree(Path(__file__).parent / "size", self.overlay / "size")
        components = ["size", "../../components/relay-limits"]
        if given := os.environ.get(COMPONENT):
            shutil.copytree(given, self.overlay / "given")
            components.append("given")
        sink = {"name": "K_SINK", "value": f"http://separate.{self.space.name}.svc.cluster.local"}
        relay = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "relay"},
            "spec": {"template": {"spec": {"containers": [{"name": "relay", "env": [sink]}]}}},
        }
        address = f"STEMS_S3_PUBLIC_ENDPOINT=http://127.0.0.1:{self.ports['MINIO_PORT']}"
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.space.name,
            "resources": ["../kind"],
            "components": components,
            "configMapGenerator": [{"name": "settings", "behavior": "merge", "literals": [address]}],
            "patches": [{"patch": yaml.safe_dump(relay)}],
        }
        (self.overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))

    def start(self) -> float:
        """Apply everything, wait until it is ready and forwarded; return the seconds that it took."""
        environ = {**os.environ, "OVERLAY": OVERLAY, **{name: str(port) for name, port in self.ports.items()}}
        script, started = self.folder / "knative" / "deploy-local-dev.sh", time.monotonic()
        with (self.folder / "deploy.log").open("wb") as log:
            self._script = subprocess.Popen([script], env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def forwarded() -> bool:
            assert self._script is not None
            assert self._script.poll() is None, self.log()
            return "Forwarded until Ctrl-C" in self.log()

        wait_for("the service to be ready", forwarded, START_S)
        return time.monotonic() - started

    def log(self) -> str:
        """Return what the script said since its last start."""
        return (self.folder / "deploy.log").read_text()

    def stop(self) -> None:
        """End the forwarding, as Ctrl-C does."""
        if self._script:
            self._script.terminate()
            self._script.wait(30)

    def remove(self) -> None:
        """Delete the namespace and with it everything; nobody waits for pods that may take ten minutes to end."""
        self.stop()
        self.space.kubectl("delete", "namespace", self.space.name, "--ignore-not-found", "--wait=false")

    def environ(self, user: str) -> dict[str, str]:
        """Return the environment of a process on this machine that takes the place of a part."""
        return environment(self.folder / ".stems" / "cluster" / f"{user}.env")


class Service(Hands):
    """Hands on a deployment, which wait while a forwarded port leads nowhere."""

    def __init__(self, deployment: Deployment) -> None:
        settings = Settings.from_env(deployment.environ("uploader"))
        super().__init__(settings, need("mc"), deployment.folder / "mc")
        self.deployment, self.space = deployment, deployment.space

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an upload; none while MinIO is away."""
        with contextlib.suppress(MinioException, urllib3.exceptions.HTTPError):
            return super().tags(key)
        return {}

    def get(self, path: str) -> Any:
        """GET JSON from the REST function, waiting for its port."""

        def look() -> Any:
            with contextlib.suppress(OSError):
                return super(Service, self).get(path)

        return wait_for(path, look)

    def separations(self, key: str) -> tuple[int, int]:
        """Return how often the separation of a song was begun and ended, by the word of the function."""

        lines = self._log()
        begun, ended = (
            sum(f" {word} key={key} job=" in line for line in lines) for word in ("separating", "separated")
        )
        return begun, ended

    def parts(self, key: str) -> Counter[str]:
        """Return how often each part of a song was begun, by the word of the function."""
        told = (line.partition(f" making a part key={key} job=")[2] for line in self._log())
        return Counter(found[1] for text in told if (found := re.search(r" part=(\S+)", text)))

    def failures(self, key: str) -> list[str]:
        """Return the lines of the relay about deliveries of a song, or of its parts, that came to nothing."""
        told = [line for line in self._log() if f" key={key} job=" in line]
        return [line for line in told if re.search(r" attempt \d+ failed: | the sink is away: ", line)]

    def _log(self) -> list[str]:
        """Return the newest lines of all parts of the service, waiting for Redis."""

        def look() -> list[str]:
            with contextlib.suppress(redis.RedisError):
                return self.redis.lrange(naming.LOG_TAIL, 0, -1)  # type: ignore[return-value]
            return []

        return wait_for("the log in Redis", look)

    def in_the_middle(self, key: str, etag: str, deadline_s: float = 300) -> None:
        """Wait until a song is being separated, which a pod may have to be started for."""
        super().in_the_middle(key, etag, deadline_s)

    def revision(self) -> str:
        """Return the newest revision of `separate` that is ready."""
        return self.space.kubectl("get", "ksvc", "separate", "-o", "jsonpath={.status.latestReadyRevisionName}")

    def idle(self) -> None:
        """Wait until `separate` has no pod: the scale-down delay, the autoscaler's window and a pod's own end."""
        wait_for("no pod of separate", lambda: not self.space.pods("separate"), 600)

    def settle(self) -> None:
        """Wait until nothing of the test before is left: no songs in line, and one pod at most."""
        wait_for("one pod of separate", lambda: len(self.space.pods("separate")) <= 1, 600)
