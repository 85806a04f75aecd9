"""What the verification stands on, each at a version that is written here: kustomize, and the schemas' Go modules."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from stems.errors import ConfigError
from stems_local.programs import Say, go, go_install

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = CHECKOUT / ".stems" / "bin"
WEBHOOK = Path(__file__).with_name("webhook")
PROMQL = Path(__file__).with_name("promql")
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
# Kubernetes as the oldest that this Knative runs on. With the sums that the checksum database has for them.
KUBERNETES = ("k8s.io/kubernetes@v1.34.4", "h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk=")
SERVING = ("knative.dev/serving@v0.50.0", "h1:9XUQq2yqUPN1YZUuGH6nF8IMvuumNvGXzCrSTYu44bA=")
EVENTING = ("knative.dev/eventing@v0.50.0", "h1:4GSn7yyMLgpGUqU0vZjcyFKK0vSi3TtZXPVzb7HW7Ds=")

OPERATOR = (
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
)


def kustomize(say: Say) -> str:
    """Return the path of kustomize, building it where it is missing. Raises ConfigError."""
    BIN.mkdir(parents=True, exist_ok=True)
    return shutil.which("kustomize", path=str(BIN)) or go_install(BIN, "kustomize", KUSTOMIZE, say)


def webhook(say: Say) -> str:
    """Return the path of the program that checks as Knative's webhook does, built from webhook/. Raises ConfigError."""
    return _built("knative-webhook", WEBHOOK, say)


def promql(say: Say) -> str:
    """Return the path of the program that reads rules as Prometheus does, built from promql/. Raises ConfigError."""
    return _built("stems-promql", PROMQL, say)


def _built(name: str, folder: Path, say: Say) -> str:
    """Build the Go program in `folder`; each time: Go builds again only what has changed."""
    program = BIN / name
    if not program.exists():
        say(f"building {name} from source (some minutes, once)")
    BIN.mkdir(parents=True, exist_ok=True)
    command = [go(BIN, say), "build", "-trimpath", "-o", str(program), "."]
    environ = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{' '.join(command)} in {folder} failed: {done.stderr.strip()[-500:]}")
    return str(program)


def module(pinned: tuple[str, str], say: Say) -> Path:
    """Return the folder of a Go module, downloaded into Go's own cache. Raises ConfigError where its sum is another."""
    name, wanted = pinned
    command = [go(BIN, say), "mod", "download", "-json", name]
    # Outside any module: it is one that nothing here is built from.
    done = subprocess.run(command, cwd="/", env={**os.environ, "GO111MODULE": "on"}, capture_output=True, text=True)
    found = json.loads(done.stdout or "{}")
    if done.returncode or "Dir" not in found:
        raise ConfigError(f"{name} cannot be downloaded: {found.get('Error') or done.stderr.strip()}")
    if found["Sum"] != wanted:
        raise ConfigError(f"{name} has the sum {found['Sum']}, not {wanted}")
    return Path(found["Dir"])
