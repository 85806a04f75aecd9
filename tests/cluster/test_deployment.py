"""The overlay applied from nothing is ready; applied again it changes nothing; removed and applied it has its data."""

from pathlib import Path

import pytest

from tests.cluster.conftest import Say
from tests.cluster.deployment import Deployment, Service
from tests.cluster.songs import lasting
from tests.pipeline import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
PARTS = {"minio", "redis", "relay", "logs", "separate", "tracks", "minio-setup"}


def test_every_part_is_there_and_nothing_was_started_twice(deployment: Deployment, say: Say) -> None:
    pods = deployment.space.get("pods")
    assert {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods} >= PARTS - {"separate"}
    for pod in pods:
        for status in pod["status"]["containerStatuses"]:
            # The set-up and the relay may be there before MinIO and Redis, and wait for them.
            assert status["restartCount"] == 0, (pod["metadata"]["name"], status)
    ready = {each["metadata"]["name"]: each["status"]["conditions"] for each in deployment.space.get("ksvc")}
    assert all(condition["status"] == "True" for conditions in ready.values() for condition in conditions), ready
    assert len(deployment.space.get("pvc")) == 2


def test_the_cluster_has_nothing_to_object(deployment: Deployment) -> None:
    assert "Warning" not in deployment.log()


def test_applied_again_it_changes_nothing(deployment: Deployment) -> None:
    # kubectl ends with 1 where there is a difference; what `apply` calls configured is not always changed.
    assert deployment.space.kubectl("diff", "-k", str(deployment.overlay)) == ""


def test_removed_and_applied_it_goes_on_with_its_data(
    deployment: Deployment, service: Service, tmp_path: Path, say: Say
) -> None:
    service.put(lasting(tmp_path / "kept.mp3", 10), "kept.mp3")
    kept = service.done("kept.mp3", deadline_s=300)
    deployment.stop()
    # As knative/README.md has it.
    deployment.space.kubectl("delete", "-k", str(deployment.overlay), "-l", "!stems/keep", "--timeout=300s")
    wait_for("no pod", lambda: not deployment.space.get("pods"), 300)
    assert deployment.space.get("ksvc,deployments,statefulsets,jobs,services,secrets,networkpolicies") == []
    assert len(deployment.space.get("pvc")) == 2
    seconds = deployment.start()
    say(f"removed and applied again: ready after {seconds:.0f} s")
    assert service.get(f"/v1/tracks/{kept['songhash']}") == kept
    service.put(lasting(tmp_path / "after.mp3", 10), "after.mp3")
    service.done("after.mp3", deadline_s=300)
