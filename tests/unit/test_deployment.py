"""What the manifests must have in common with the rest of the checkout."""

import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from knative.verify.builds import builds
from stems.tokens import Role, Tokens
from stems_local.programs import Programs
from stems_local.stack import Stack
from tests.manifests import VERSION, Manifests
from tests.programs import CHECKOUT

KNATIVE = CHECKOUT / "knative"


def kustomization(folder: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


def test_the_images_are_of_this_version() -> None:
    tags = {str(image["name"]): image["newTag"] for image in kustomization(KNATIVE / "base")["images"]}
    assert tags == dict.fromkeys(("stems-relay", "stems-separate", "stems-tracks"), VERSION)


@pytest.mark.parametrize("stage", ["minio-config", "events"])
def test_images_of_others_have_a_version(stage: str) -> None:
    for image in kustomization(CHECKOUT / stage)["images"]:
        assert re.search(r"\d", str(image["newTag"])), image


def test_everything_is_built_by_make_manifests() -> None:
    overlays = {path.parent.name for path in KNATIVE.glob("overlays/*/kustomization.yaml")}
    assert overlays == {build.overlay for build in builds()}
    found = (KNATIVE / "components").rglob("kustomization.yaml")
    components = {str(path.parent.relative_to(KNATIVE / "components")) for path in found}
    in_the_base = {Path(str(each)).name for each in kustomization(KNATIVE / "base")["components"]}
    assert components == {name for build in builds() for name in build.components} | in_the_base


def test_an_overlay_that_changes_the_scale_tells_the_relay() -> None:
    for path in KNATIVE.glob("overlays/*/kustomization.yaml"):
        if (path.parent / "size").exists():
            assert [str(each) for each in kustomization(path.parent)["components"]][-1].endswith("relay-limits"), path


def test_each_component_says_what_it_is() -> None:
    for folder in (KNATIVE / "components").iterdir():
        assert (folder / "README.md").exists() or (folder / "kustomization.yaml").read_text().startswith("# "), folder


def test_minio_is_told_what_the_local_one_is(tmp_path: Path) -> None:
    # The one thing that two descriptions have: targets are variables of the server, which only its starter can set.
    local = Stack(tmp_path, Programs("minio", "mc", "redis-server"))._minio_environ()
    cluster = {each["name"]: each.get("value") for each in Manifests().container("minio")["env"]}
    assert cluster.keys() - {"HOME"} == local.keys()
    for name, value in local.items():
        if cluster[name] and not re.search("ADDRESS|QUEUE_DIR", name):
            assert cluster[name] == value, name


def test_the_job_gets_all_of_minio_config() -> None:
    policies = {f"policies/{path.name}" for path in (CHECKOUT / "minio-config" / "policies").iterdir()}
    generated = kustomization(CHECKOUT / "minio-config")["configMapGenerator"][0]["files"]
    mounted = {item["path"] for item in Manifests().pod("minio-setup")["volumes"][0]["configMap"]["items"]}
    assert set(generated) == mounted == {"apply.py", *policies}  # type: ignore[call-overload]


def test_secrets_are_made_once_and_by_chance(tmp_path: Path) -> None:
    def fill(folder: Path) -> dict[str, str]:
        folder.mkdir(exist_ok=True)
        subprocess.run([KNATIVE / "secrets.sh", folder], check=True, capture_output=True)
        lines = [line for path in sorted(folder.glob("*.env")) for line in path.read_text().splitlines()]
        return dict(line.split("=") for line in lines)

    first = fill(tmp_path / "one")
    assert fill(tmp_path / "one") == first
    assert all(re.fullmatch("(whsec_)?[0-9a-f]{32}", value) for value in first.values())
    values = [*first.values(), *fill(tmp_path / "two").values()]
    assert len(set(values)) == len(values)
    for path in (tmp_path / "one").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    wanted: set[str] = set()
    for each in kustomization(KNATIVE / "secrets")["secretGenerator"]:
        wanted |= {str(name) for kind in ("envs", "files") for name in each.get(kind, ())}  # type: ignore[attr-defined]
    assert wanted | {"token.env"} == {path.name for path in (tmp_path / "one").iterdir()}
    token = Tokens(tmp_path / "one" / "tokens").find(first["STEMS_TOKEN"])
    assert token is not None
    assert token.role is Role.ADMIN


def test_secrets_that_a_later_version_wants_are_added(tmp_path: Path) -> None:
    def fill() -> None:
        subprocess.run([KNATIVE / "secrets.sh", tmp_path], check=True, capture_output=True)

    fill()
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "redis.env").write_text("REDIS_PASSWORD=old\nREDIS_TRACKS_PASSWORD=kept")
    (tmp_path / "sink.env").unlink()
    (tmp_path / "token.env").unlink()  # its owner keeps it elsewhere
    fill()
    redis = (tmp_path / "redis.env").read_text()
    assert redis.startswith("REDIS_PASSWORD=old\nREDIS_TRACKS_PASSWORD=kept\n")
    names = re.findall("^(REDIS_.*)=", before["redis.env"], re.MULTILINE)
    assert sorted(re.findall("^(REDIS_.*)=", redis, re.MULTILINE)) == sorted(["REDIS_PASSWORD", *names])
    assert re.fullmatch("STEMS_SINK_SECRET=[0-9a-f]{32}\n", (tmp_path / "sink.env").read_text())
    assert not (tmp_path / "token.env").exists(), "nobody would know it"
    for name in before.keys() - {"redis.env", "sink.env", "token.env"}:
        assert (tmp_path / name).read_text() == before[name]


def test_no_secret_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    assert not [name for name in listed.stdout.splitlines() if name.endswith(".env")]
    for name in ("redis.env", "tokens"):
        ignored = subprocess.run(["git", "check-ignore", f"knative/secrets/{name}"], cwd=CHECKOUT, capture_output=True)
        assert ignored.returncode == 0
