"""What the Dockerfile and compose.yaml must have in common with the rest of the checkout."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]

from stems.config import Settings, table
from stems.tracks.app import create_app
from tests.manifests import VERSION, Manifests
from tests.programs import CHECKOUT

DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("stems-")}
ENGINE = """#!/bin/sh
[ "$1" = info ] || echo "$*" >>"$ASKED"
"""


def arguments() -> dict[str, str]:
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))


def test_the_version_is_that_of_the_project() -> None:
    assert arguments()["VERSION"] == VERSION
    assert {service["image"].rpartition(":")[2] for service in OURS.values()} == {VERSION}


def test_the_base_is_named_by_its_digest() -> None:
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", arguments()["BASE"])
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    known = ["${BASE}"]
    for parent, name in stages:
        assert parent in known
        known.append(name)
    assert len(stages) == DOCKERFILE.count("\nFROM ")
    assert {"relay", "tracks", "separate"} <= set(known)
    copied_from = set(re.findall(r"--from=(\S+)", DOCKERFILE))
    assert copied_from <= set(known)


def test_nothing_is_called_latest() -> None:
    images = [service["image"] for service in SERVICES.values()]
    assert all(re.search(r":[\w.-]*\d[\w.-]*", image) for image in images)
    assert not [text for text in (DOCKERFILE, *images) if "latest" in text]


def test_the_context_holds_what_is_packed() -> None:
    allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    packed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {*packed, project["project"]["readme"], *project["project"]["license-files"]} <= allowed
    assert all((CHECKOUT / name).exists() for name in allowed)


def test_what_the_image_of_separate_leaves_out_is_pinned() -> None:
    (excluded,) = re.findall(r"RUN printf '%s\\n' (.*) >excludes.txt", DOCKERFILE)
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (CHECKOUT / "requirements.txt").read_text(), re.MULTILINE))
    # A name that is spelt wrong, or is needed no more, would leave nothing out.
    assert set(excluded.split()) - {"triton"} <= pinned


def test_images_of_others_are_those_of_the_manifests() -> None:
    for name, stage in (("minio", "minio-config"), ("redis", "events")):
        (image,) = yaml.safe_load((CHECKOUT / stage / "kustomization.yaml").read_text())["images"]
        digest = f"@{image['digest']}" if "digest" in image else ""
        default = f"{image['newName']}:{image['newTag']}{digest}"
        assert SERVICES[name]["image"] == f"${{{name.upper()}_IMAGE:-{default}}}"


def test_minio_is_told_what_the_one_of_the_manifests_is() -> None:
    cluster = {each["name"]: each.get("value") for each in Manifests().container("minio")["env"]}
    here = SERVICES["minio"]["environment"]
    assert here.keys() == cluster.keys()
    for name, value in cluster.items():
        assert here[name] == value or value is None, name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_may_do_as_little_as_it_can(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] in {"unless-stopped", "on-failure"}
    assert service["user"] == "10001:10001" or name == "volumes"
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    # Those that come to an end have nothing to be asked.
    assert ("healthcheck" in service) == (service["restart"] == "unless-stopped")


def test_only_minio_and_tracks_can_be_reached() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"minio", "tracks"}


_SECRET = "whsec_" + 32 * "0"  # good for all of them


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_part_is_told_settings_that_exist(name: str) -> None:
    environ = {key: re.sub(r"\$\{.*?\}", _SECRET, value) for key, value in OURS[name].get("environment", {}).items()}
    assert environ.keys() <= {variable for variable, _ in table()}
    settings = Settings.from_env(environ)
    if name in ("relay", "separate", "tracks"):
        assert settings.s3_access_key == name
        assert OURS[name]["environment"]["STEMS_S3_SECRET_KEY"] == f"${{STEMS_{name.upper()}_SECRET_KEY}}"


def test_passwords_are_made_and_not_written_down(tmp_path: Path) -> None:
    subprocess.run([CHECKOUT / "knative" / "secrets.sh", tmp_path], check=True, capture_output=True)
    files = set(tmp_path.glob("*.env")) - {tmp_path / "token.env"}  # that is for clusters
    made = {line.split("=")[0] for path in files for line in path.read_text().splitlines()}
    used = re.findall(r"\$\{(\w+)(:[^}]*)?\}", (CHECKOUT / "compose.yaml").read_text())
    assert {name for name, _ in used} - {"MINIO_IMAGE", "REDIS_IMAGE"} == made
    for name in made:
        ways = [way for used_name, way in used if used_name == name]
        assert set(ways) <= {"", ":?run make .env"}, name
        assert ":?run make .env" in ways, name


def test_the_function_answers_to_localhost_and_to_the_relay_alone() -> None:
    environ = {key: re.sub(r"\$\{.*?\}", _SECRET, value) for key, value in OURS["tracks"]["environment"].items()}
    client = create_app(Settings.from_env(environ)).test_client()
    own = urlsplit(OURS["relay"]["environment"]["STEMS_URL"]).netloc
    names = {"127.0.0.1:8080": 200, "localhost:8080": 200, own: 200, "rebound.example": 403}
    assert {name: client.get("/v1/session", headers={"Host": name}).status_code for name in names} == names


def test_make_env_writes_each_password_once(tmp_path: Path) -> None:
    for name in ("Makefile", "knative"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    subprocess.run(["make", "-C", tmp_path, ".env"], check=True, capture_output=True)
    env = tmp_path / ".env"
    first = env.read_text()
    assert re.fullmatch(r"([A-Z_]+=(whsec_)?[0-9a-f]{32}\n){14}", first)
    assert env.stat().st_mode & 0o777 == 0o600
    subprocess.run(["make", "-C", tmp_path, ".env"], check=True, capture_output=True)
    assert env.read_text() == first
    # An earlier version knew fewer, and its owner wrote in it.
    lost = "STEMS_SINK_SECRET"
    mine = re.sub(rf"{lost}=.*\n", "", first).replace("MINIO_ROOT_USER=", "export MINIO_ROOT_USER = ") + "MINE=1"
    env.write_text(mine)
    subprocess.run(["make", "-C", tmp_path, ".env"], check=True, capture_output=True)
    assert re.fullmatch(rf"{re.escape(mine)}\n{lost}=[0-9a-f]{{32}}\n", env.read_text())


def test_make_images_builds_all_three_with_what_it_is_given(tmp_path: Path) -> None:
    docker, asked = tmp_path / "docker", tmp_path / "asked"
    docker.write_text(ENGINE)
    docker.chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "ASKED": str(asked),
        "PREFIX": "kind.local",
        "MODEL": "htdemucs",
        "CA": "/some/ca.pem",
    }
    subprocess.run([CHECKOUT / "local" / "images.sh"], env=environ, check=True, capture_output=True)
    lines = asked.read_text().splitlines()
    for line, part in zip(lines, ("relay", "tracks", "separate"), strict=True):
        assert f"--target {part} --tag kind.local/stems-{part}:{VERSION} " in line
        assert "--build-arg MODEL=htdemucs" in line
        assert "--secret id=ca,src=/some/ca.pem" in line
        assert "BASE=" not in line, "the Dockerfile's own"
