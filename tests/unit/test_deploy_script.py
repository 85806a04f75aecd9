"""knative/deploy-local-dev.sh against a kubectl that writes down what it is asked and forwards nothing."""

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.programs import CHECKOUT
from tests.servers import until

KUBECTL = """#!/bin/sh
echo "$*" >>"$ASKED"
case "$*" in
*port-forward*) exec sleep 1000 ;;
*latestReadyRevisionName*) echo tracks-00001 ;;
*"$FAILS"*) exit 1 ;;
esac
"""


class Cluster:
    """A checkout with the manifests, and a kubectl in front of the path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, folder / "asked"
        shutil.copytree(CHECKOUT / "knative", folder / "knative", ignore=shutil.ignore_patterns("*.env", "verify"))
        (folder / "bin").mkdir()
        kubectl = folder / "bin" / "kubectl"
        kubectl.write_text(KUBECTL)
        kubectl.chmod(0o755)
        self.asked.touch()

    def start(self, *arguments: str, fails: str = "nothing that is asked") -> subprocess.Popen[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environ = {
            "PATH": path,
            "ASKED": str(self.asked),
            "FAILS": fails,
            "KUBE_CONTEXT": "trial",
            "REDIS_PORT": "16379",
        }
        script = [str(self.folder / "knative" / "deploy-local-dev.sh"), *arguments]
        # A session of its own: whatever is left in it afterwards is what the script left behind.
        return subprocess.Popen(
            script, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def asks(self, part: str) -> int:
        """Return how often kubectl was asked for it."""
        return sum(part in line for line in self.asked.read_text().splitlines())


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def left_in(session: int) -> list[str]:
    done = subprocess.run(["ps", "-s", str(session), "-o", "stat=,args="], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if not line.startswith("Z")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_deploys_forwards_and_leaves_nothing_running(cluster: Cluster, number: signal.Signals) -> None:
    script = cluster.start()
    until(lambda: cluster.asks("port-forward") == 3)
    script.send_signal(number)
    said, errors = script.communicate(timeout=20)
    assert script.returncode == 128 + number, errors
    assert left_in(script.pid) == []
    assert cluster.asks("apply -k knative/overlays/kind") == 1
    assert cluster.asks("wait --for condition=Ready") == 1
    assert cluster.asks("service/tracks-00001-private 8080:80") == 1
    assert cluster.asks("service/redis 16379:6379") == 1
    assert cluster.asks("--context trial") == len(cluster.asked.read_text().splitlines()), "and no other cluster"
    assert "mc cp song.mp3 stems/queue/" in said


def test_a_part_started_here_gets_its_own_secret(cluster: Cluster) -> None:
    script = cluster.start("forward")
    until(lambda: cluster.asks("port-forward") == 3)
    script.terminate()
    script.communicate(timeout=20)
    assert cluster.asks("apply") == 0
    users = (cluster.folder / "knative" / "secrets" / "minio-users.env").read_text()
    relay = cluster.folder / ".stems" / "cluster" / "relay.env"
    settings = dict(line.split("=", 1) for line in relay.read_text().splitlines())
    assert f"STEMS_RELAY_SECRET_KEY={settings['STEMS_S3_SECRET_KEY']}\n" in users
    assert settings["STEMS_S3_ACCESS_KEY"] == "relay"
    made = "".join(path.read_text() for path in (cluster.folder / "knative" / "secrets").glob("*.env"))
    for name in ("STEMS_SINK_SECRET", "STEMS_CALLBACK_SECRET"):
        assert f"{name}={settings[name]}\n" in made
    assert settings["STEMS_REDIS_URL"].endswith("@127.0.0.1:16379/0")
    assert stat.S_IMODE(relay.stat().st_mode) == 0o600


def test_the_overlay_says_which_namespace(cluster: Cluster) -> None:
    overlay = cluster.folder / "knative" / "overlays" / "kind" / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("namespace: stems", "namespace: mine"))
    script = cluster.start()
    until(lambda: cluster.asks("port-forward") == 3)
    script.terminate()
    said, _ = script.communicate(timeout=20)
    assert cluster.asks("--namespace mine") == len(cluster.asked.read_text().splitlines())
    assert "kubectl -n mine logs" in said


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("version", "does not answer"),
        ("get crd", "no Knative Serving"),
        ("rollout status --timeout 300s statefulset/redis", "statefulset/redis does not come up"),
        ("job/minio-setup", "logs job/minio-setup"),
        ("ksvc/separate", "get ksvc,revision"),
    ],
)
def test_what_does_not_come_up_is_named(cluster: Cluster, fails: str, said: str) -> None:
    script = cluster.start(fails=fails)
    _, errors = script.communicate(timeout=20)
    assert script.returncode == 1
    assert said in errors.splitlines()[-1]
    assert cluster.asks("port-forward") == 0
