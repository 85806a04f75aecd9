"""Who may do what: each user what he needs, and nothing else."""

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3
from minio import Minio, MinioAdmin
from minio.credentials.providers import AssumeRoleProvider, StaticProvider
from minio.error import MinioAdminException, S3Error

from tests.integration.minio_config.calls import CALLS, put
from tests.minio_server import SECRETS, USERS, Server, tags
from tests.programs import need

READ = {"get", "get missing", "get version", "stat", "signed get", "select"}
LOOK = {"list", "list versions", "bucket exists"}  # MinIO: who may list may list versions
WRITE = {"put", "put parts", "put an archive", "signed put", "form", "copy", "copy anew"}
REMOVE = {"remove", "remove many", "remove version"}  # the version of an object without versions is the object
ALLOWED = {
    ("separate", "queue"): READ | {"get tags", "set tags"},
    ("separate", "output"): READ | LOOK | WRITE | {"copy from the other", "abort"},
    ("tracks", "queue"): READ | LOOK | WRITE | REMOVE | {"copy from the other", "get tags", "set tags", "abort"},
    ("tracks", "output"): READ | LOOK | REMOVE,
    ("relay", "queue"): READ | LOOK | {"get tags", "set tags"},
    ("relay", "output"): LOOK,
    ("uploader", "queue"): READ
    | LOOK
    | WRITE
    | REMOVE
    | {"copy from the other", "get tags", "set tags"}
    | {"abort", "list parts", "list uploads", "location", "make it again"},  # rclone makes it before it writes
    ("uploader", "output"): READ | LOOK | {"location"},
}
HASH = "0123456789abcdef" * 4
# By kind of object in `output`: its name, and who may do what with it.
KINDS = {
    "record": (
        f"{HASH}.json",
        {"read": "separate tracks relay uploader", "write": "separate tracks", "remove": "tracks"},
    ),
    "stem": (
        f"{HASH}-vocals.mp3",
        {"read": "separate tracks uploader", "write": "separate", "remove": "tracks relay"},
    ),
    "waveforms": (
        f"{HASH}-peaks.json",
        {"read": "separate tracks relay uploader", "write": "separate tracks", "remove": "tracks relay"},
    ),
    "part": (
        f"parts/{HASH}/plan/part-1.json",
        {"read": "separate uploader", "write": "separate", "remove": "separate"},
    ),
    "sound of a part": (
        f"parts/{HASH}/plan/part-1-vocals.f32",
        {"read": "separate uploader", "write": "separate", "remove": "separate"},
    ),
    "else": ("new.txt", {"read": "separate tracks uploader", "write": "separate", "remove": "tracks"}),
}


@pytest.mark.parametrize("bucket", ["queue", "output"])
@pytest.mark.parametrize("user", USERS)
def test_each_user_can_do_what_he_needs_and_nothing_else(server: Server, user: str, bucket: str) -> None:
    client, answers = server.login(user), {}
    for name, call in CALLS.items():
        try:
            call(server, client, bucket)
            answers[name] = "allowed"
        except S3Error as error:
            answers[name] = error.code or ""
    missing = {"get missing": "NoSuchKey"} if "get missing" in ALLOWED[user, bucket] else {}
    expected = {name: "allowed" if name in ALLOWED[user, bucket] else "AccessDenied" for name in CALLS}
    assert answers == expected | missing


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_user_can_do_what_he_needs_with_each_kind_of_result(server: Server, user: str, kind: str) -> None:
    client, (name, rights) = server.login(user), KINDS[kind]
    put(server.login("root"), "output", name)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: client.get_object("output", name).close(),
        "write": lambda: put(client, "output", name),
        "remove": lambda: client.remove_object("output", name),
    }
    answers = {}
    for verb, call in calls.items():
        try:
            call()
            answers[verb] = "allowed"
        except S3Error as error:
            answers[verb] = error.code or ""
    assert answers == {verb: "allowed" if user in rights[verb].split() else "AccessDenied" for verb in calls}


@pytest.mark.parametrize("user", USERS)
def test_nobody_administrates(server: Server, user: str) -> None:
    admin = server.admin(user)
    calls: list[Callable[[], object]] = [
        admin.info,
        admin.user_list,
        admin.policy_list,
        admin.get_data_usage_info,
        admin.service_stop,
        lambda: admin.user_info("root"),
        lambda: admin.user_disable("uploader"),
        lambda: admin.user_add("intruder", "intruder-secret"),
        lambda: admin.policy_set("readwrite", user=user),
        lambda: admin.policy_add("mine", policy={"Version": "2012-10-17", "Statement": []}),
        lambda: admin.group_add("mine", [user]),  # type: ignore[arg-type]
        lambda: admin.config_set("api", {"stale_uploads_expiry": "1h"}),
        # MinIO gives these to whoever is not denied them: a key that leaked would outlive a change of secrets.
        lambda: admin.user_add(user, "another-secret"),
        lambda: admin.add_service_account(access_key="intruder", secret_key="intruder-secret"),
    ]
    for call in calls:
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            call()


# With more than the user has, and with nothing said.
WISHES = (
    None,
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}]},
)


@pytest.mark.parametrize("user", USERS)
def test_a_key_for_a_while_can_do_nothing(server: Server, user: str) -> None:
    """MinIO gives one to every user, for a week, and takes it although the user's secret was changed since."""
    for wish in WISHES:
        policy = json.dumps(wish) if wish else None
        sts = f"http://{server.endpoint}"
        lent = AssumeRoleProvider(sts_endpoint=sts, access_key=user, secret_key=SECRETS[user], policy=policy).retrieve()
        client = Minio(
            server.endpoint, lent.access_key, lent.secret_key, lent.session_token, secure=False, region="us-east-1"
        )
        for bucket in ("queue", "output"):
            allowed = []
            for name, call in CALLS.items():
                with contextlib.suppress(S3Error):
                    call(server, client, bucket)
                    allowed.append(name)
            assert not allowed, bucket
        admin = MinioAdmin(
            endpoint=server.endpoint,
            credentials=StaticProvider(lent.access_key, lent.secret_key, lent.session_token),
            secure=False,
        )
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            admin.info()
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            admin.add_service_account(access_key="intruder", secret_key="intruder-secret")


def test_strangers_can_do_nothing(server: Server) -> None:
    for bucket in ("queue", "output"):
        for method, path in (("GET", "there"), ("HEAD", "there"), ("PUT", "new"), ("DELETE", "there"), ("GET", "")):
            answer = urllib3.request(method, f"http://{server.endpoint}/{bucket}/{path}")
            assert answer.status == 403, (method, bucket, path)


def test_a_listing_of_the_relay_has_tags_and_options(server: Server) -> None:
    asked = {"stems": "vocals"}
    server.login("uploader").put_object("queue", "asks", io.BytesIO(b"song"), 4, metadata=dict(asked), tags=tags())
    found = server.login("relay").list_objects("queue", recursive=True, include_user_meta=True)
    (item,) = [item for item in found if item.object_name == "asks"]
    assert item.tags == {"state": "done"}
    assert dict(item.metadata or {})["X-Amz-Meta-Stems"] == "vocals"


def test_mc_as_the_uploader(server: Server, tmp_path: Path) -> None:
    song = tmp_path / "ab c.mp3"
    song.write_bytes(b"song")
    environ = {"HOME": str(tmp_path), "MC_HOST_stems": f"http://uploader:{SECRETS['uploader']}@{server.endpoint}"}
    environ["PATH"] = os.environ["PATH"]  # mc looks for its user with getent
    for command in (
        ["cp", "--attr", "stems=vocals", str(song), "stems/queue/mc/"],
        ["cp", "--tags", "state=new", str(song), "stems/queue/mc/tagged.mp3"],
        ["ls", "--recursive", "stems/queue"],
        ["stat", "stems/queue/mc/ab c.mp3"],
        ["tag", "list", "stems/queue/mc/tagged.mp3"],
        ["cp", "stems/queue/mc/ab c.mp3", "stems/queue/mc/again.mp3"],
        ["cp", "stems/output/there", str(tmp_path / "stem.mp3")],
        ["mirror", "stems/output", str(tmp_path / "output")],
        ["rm", "--recursive", "--force", "stems/queue/mc/"],
    ):
        subprocess.run([need("mc"), *command], env=environ, check=True, capture_output=True, text=True)
    assert (tmp_path / "stem.mp3").read_bytes() == (tmp_path / "output" / "there").read_bytes() == b"song"
