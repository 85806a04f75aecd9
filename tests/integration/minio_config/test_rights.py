"""Who may do what: each user what he needs, and nothing else."""

import io
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource, Tags
from minio.datatypes import PostPolicy
from minio.error import MinioAdminException, S3Error
from minio.notificationconfig import NotificationConfig

from tests.minio_server import SECRETS, STRANGERS, USERS, Server, tags
from tests.programs import need


def upload_id(server: Server, bucket: str) -> str:
    """Begin a multipart upload as root."""
    return str(server.login("root")._create_multipart_upload(bucket, "parts", {}))


def _put(server: Server, client: Minio, bucket: str) -> object:
    return client.put_object(bucket, "new", io.BytesIO(b"song"), 4)


def _multipart(server: Server, client: Minio, bucket: str) -> object:
    return client.put_object(bucket, "new", io.BytesIO(bytes(5 << 20 | 1)), 5 << 20 | 1, part_size=5 << 20)


def _copy(server: Server, client: Minio, bucket: str) -> object:
    return client.copy_object(bucket, "new", CopySource(bucket, "there"))


def _form(server: Server, client: Minio, bucket: str) -> object:
    """Send a form that the user has signed, as a browser does."""
    policy = PostPolicy(bucket, datetime.now(UTC) + timedelta(hours=1))
    policy.add_equals_condition("key", "new")
    fields: dict[str, str | tuple[str, bytes]] = {"key": "new", **client.presigned_post_policy(policy)}
    fields["file"] = ("new", b"song")
    answer = urllib3.request("POST", f"http://{server.endpoint}/{bucket}", fields=[*fields.items()])
    if answer.status == 403:
        raise S3Error(None, "AccessDenied", None, bucket, None, None)  # type: ignore[arg-type]
    return answer


def _copy_anew(_: object, client: Minio, bucket: str) -> object:
    """Copy an object onto itself with other metadata and no tags, as for another separation."""
    source, none = CopySource(bucket, "there"), Tags.new_object_tags()
    new: dict[str, str | list[str] | tuple[str]] = {"rerun": "now"}
    return client.copy_object(
        bucket, "there", source, metadata=new, tags=none, metadata_directive=REPLACE, tagging_directive=REPLACE
    )


def _ask(method: str, **query: str) -> Callable[[Server, Minio, str], object]:
    return lambda server, client, bucket: client._execute(method, bucket, query_params=dict(query))


def _make_again(_: object, client: Minio, bucket: str) -> None:
    try:
        client.make_bucket(bucket)
    except S3Error as error:
        if error.code != "BucketAlreadyOwnedByYou":
            raise


CALLS: dict[str, Callable[[Server, Minio, str], object]] = {
    "get": lambda _, client, bucket: client.get_object(bucket, "there").close(),
    "get missing": lambda _, client, bucket: client.get_object(bucket, "missing"),
    "stat": lambda _, client, bucket: client.stat_object(bucket, "there"),
    "put": _put,
    "put parts": _multipart,
    "copy": _copy,
    "copy anew": _copy_anew,
    "form": _form,
    "remove": lambda _, client, bucket: client.remove_object(bucket, "gone"),
    "get tags": lambda _, client, bucket: client.get_object_tags(bucket, "there"),
    "set tags": lambda _, client, bucket: client.set_object_tags(bucket, "there", tags()),
    "remove tags": lambda _, client, bucket: client.delete_object_tags(bucket, "there"),
    "abort": lambda server, client, bucket: client._abort_multipart_upload(bucket, "parts", upload_id(server, bucket)),
    "list parts": lambda server, client, bucket: client._list_parts(bucket, "parts", upload_id(server, bucket)),
    "list uploads": lambda _, client, bucket: client._list_multipart_uploads(bucket),
    "list": lambda _, client, bucket: list(client.list_objects(bucket)),
    "list versions": lambda _, client, bucket: list(client.list_objects(bucket, include_version=True)),
    "bucket exists": lambda _, client, bucket: client.bucket_exists(bucket),
    "location": _ask("GET", location=""),
    "get notification": lambda _, client, bucket: client.get_bucket_notification(bucket),
    "set notification": lambda _, client, bucket: client.set_bucket_notification(bucket, NotificationConfig()),
    "listen": lambda _, client, bucket: next(iter(client.listen_bucket_notification(bucket))),
    "get policy": lambda _, client, bucket: client.get_bucket_policy(bucket),
    "set policy": lambda _, client, bucket: client.set_bucket_policy(bucket, json.dumps(STRANGERS)),
    "get lifecycle": lambda _, client, bucket: client.get_bucket_lifecycle(bucket),
    "remove lifecycle": lambda _, client, bucket: client.delete_bucket_lifecycle(bucket),
    "get versioning": lambda _, client, bucket: client.get_bucket_versioning(bucket),
    "bucket tags": lambda _, client, bucket: client.get_bucket_tags(bucket),
    "remove bucket": lambda _, client, bucket: client.remove_bucket(bucket),
    "make it again": _make_again,
    "make bucket": lambda _, client, bucket: client.make_bucket(f"{bucket}2"),
}
READ = {"get", "get missing", "stat"}
LOOK = {"list", "list versions", "bucket exists"}  # MinIO: who may list may list versions
ALLOWED = {
    ("separate", "queue"): READ | {"get tags", "set tags"},
    ("separate", "output"): READ | LOOK | {"put", "put parts", "copy", "abort", "form", "copy anew"},
    ("tracks", "queue"): READ
    | LOOK
    | {"put", "put parts", "copy", "remove", "get tags", "set tags", "abort", "form", "copy anew"},
    ("tracks", "output"): READ | LOOK | {"remove"},
    ("relay", "queue"): READ | LOOK | {"get tags", "set tags"},
    ("relay", "output"): LOOK,
    ("uploader", "queue"): READ
    | LOOK
    | {"put", "put parts", "copy", "remove", "get tags", "set tags", "form", "copy anew"}
    | {"abort", "list parts", "list uploads", "location", "make it again"},  # rclone makes it before it writes
    ("uploader", "output"): READ | LOOK | {"location"},
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
def test_nobody_administrates(server: Server, user: str) -> None:
    admin = server.admin(user)
    calls: list[Callable[[], object]] = [
        admin.info,
        admin.user_list,
        admin.policy_list,
        lambda: admin.user_add("intruder", "intruder-secret"),
        lambda: admin.policy_set("readwrite", user=user),
    ]
    for call in calls:
        with pytest.raises(MinioAdminException, match="AccessDenied"):
            call()


def test_strangers_can_do_nothing(server: Server) -> None:
    for bucket in ("queue", "output"):
        for method, path in (("GET", "there"), ("HEAD", "there"), ("PUT", "new"), ("DELETE", "there"), ("GET", "")):
            answer = urllib3.request(method, f"http://{server.endpoint}/{bucket}/{path}")
            assert answer.status == 403, (method, bucket, path)


def test_a_listing_of_the_relay_has_tags_and_options(server: Server) -> None:
    found = server.login("relay").list_objects("queue", recursive=True, include_user_meta=True)
    (item,) = [item for item in found if item.object_name == "there"]
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
