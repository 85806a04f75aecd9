"""What can be asked of a bucket: every call, whoever may make it."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, REPLACE, CopySource, Filter, SnowballObject, Tags
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.notificationconfig import NotificationConfig
from minio.select import CSVInputSerialization, CSVOutputSerialization, SelectRequest
from minio.sseconfig import Rule as SSE
from minio.sseconfig import SSEConfig
from minio.versioningconfig import VersioningConfig

from tests.minio_server import STRANGERS, Server, tags

Call = Callable[[Server, Minio, str], object]
OTHER = {"queue": "output", "output": "queue"}


def upload_id(server: Server, bucket: str) -> str:
    """Begin a multipart upload as root."""
    return str(server.login("root")._create_multipart_upload(bucket, "parts", {}))


def put(client: Minio, bucket: str, name: str) -> object:
    """Put an object of four bytes."""
    return client.put_object(bucket, name, io.BytesIO(b"song"), 4)


def _multipart(server: Server, client: Minio, bucket: str) -> object:
    return client.put_object(bucket, "new", io.BytesIO(bytes(5 << 20 | 1)), 5 << 20 | 1, part_size=5 << 20)


def _copy(server: Server, client: Minio, bucket: str) -> object:
    return client.copy_object(bucket, "new", CopySource(bucket, "there"))


def _copy_across(server: Server, client: Minio, bucket: str) -> object:
    return client.copy_object(bucket, "new", CopySource(OTHER[bucket], "there"))


def _without_key(method: str, url: str, bucket: str, **options: object) -> object:
    """Send what a user has signed, as a browser does."""
    answer = urllib3.request(method, url, **options)  # type: ignore[arg-type]
    if answer.status == 403:
        raise S3Error(None, "AccessDenied", None, bucket, None, None)  # type: ignore[arg-type]
    return answer


def _form(server: Server, client: Minio, bucket: str) -> object:
    policy = PostPolicy(bucket, datetime.now(UTC) + timedelta(hours=1))
    policy.add_equals_condition("key", "new")
    fields: dict[str, str | tuple[str, bytes]] = {"key": "new", **client.presigned_post_policy(policy)}
    fields["file"] = ("new", b"song")
    return _without_key("POST", f"http://{server.endpoint}/{bucket}", bucket, fields=[*fields.items()])


def _copy_anew(_: object, client: Minio, bucket: str) -> object:
    """Copy an object onto itself with other metadata and no tags, as for another separation."""
    source, none = CopySource(bucket, "there"), Tags.new_object_tags()
    new: dict[str, str | list[str] | tuple[str]] = {"rerun": "now"}
    return client.copy_object(
        bucket, "there", source, metadata=new, tags=none, metadata_directive=REPLACE, tagging_directive=REPLACE
    )


def _ask(method: str, **query: str) -> Call:
    return lambda server, client, bucket: client._execute(method, bucket, query_params=dict(query))


def _make_again(_: object, client: Minio, bucket: str) -> None:
    try:
        client.make_bucket(bucket)
    except S3Error as error:
        if error.code != "BucketAlreadyOwnedByYou":
            raise


def _remove_many(_: object, client: Minio, bucket: str) -> None:
    for error in client.remove_objects(bucket, [DeleteObject("gone")]):
        raise S3Error(None, error.code, error.message, bucket, None, None)  # type: ignore[arg-type]


def _select(_: object, client: Minio, bucket: str) -> object:
    formats = CSVInputSerialization(), CSVOutputSerialization()
    found = client.select_object_content(bucket, "there", SelectRequest("select * from s3object", *formats))
    return b"".join(found.stream())  # type: ignore[no-untyped-call]


_RULES = LifecycleConfig([Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id="x", expiration=Expiration(days=1))])

CALLS: dict[str, Call] = {
    "get": lambda _, client, bucket: client.get_object(bucket, "there").close(),
    "get missing": lambda _, client, bucket: client.get_object(bucket, "missing"),
    "get version": lambda _, client, bucket: client.get_object(bucket, "there", version_id="null").close(),
    "stat": lambda _, client, bucket: client.stat_object(bucket, "there"),
    "signed get": lambda _, client, bucket: _without_key("GET", client.presigned_get_object(bucket, "there"), bucket),
    "signed put": lambda _, client, bucket: _without_key("PUT", client.presigned_put_object(bucket, "new"), bucket),
    "select": _select,
    "put": lambda _, client, bucket: put(client, bucket, "new"),
    "put parts": _multipart,
    "put an archive": lambda _, client, bucket: client.upload_snowball_objects(
        bucket, [SnowballObject("new", data=io.BytesIO(b"song"), length=4)]
    ),
    "copy": _copy,
    "copy anew": _copy_anew,
    "copy from the other": _copy_across,
    "form": _form,
    "remove": lambda _, client, bucket: client.remove_object(bucket, "gone"),
    "remove many": _remove_many,
    "remove version": lambda _, client, bucket: client.remove_object(bucket, "gone", version_id="null"),
    "get tags": lambda _, client, bucket: client.get_object_tags(bucket, "there"),
    "set tags": lambda _, client, bucket: client.set_object_tags(bucket, "there", tags()),
    "remove tags": lambda _, client, bucket: client.delete_object_tags(bucket, "there"),
    "get retention": lambda _, client, bucket: client.get_object_retention(bucket, "there"),
    "set legal hold": lambda _, client, bucket: client.enable_object_legal_hold(bucket, "there"),
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
    "remove policy": lambda _, client, bucket: client.delete_bucket_policy(bucket),
    "get lifecycle": lambda _, client, bucket: client.get_bucket_lifecycle(bucket),
    "set lifecycle": lambda _, client, bucket: client.set_bucket_lifecycle(bucket, _RULES),
    "remove lifecycle": lambda _, client, bucket: client.delete_bucket_lifecycle(bucket),
    "get versioning": lambda _, client, bucket: client.get_bucket_versioning(bucket),
    "set versioning": lambda _, client, bucket: client.set_bucket_versioning(bucket, VersioningConfig(ENABLED)),
    "get encryption": lambda _, client, bucket: client.get_bucket_encryption(bucket),
    "set encryption": lambda _, client, bucket: client.set_bucket_encryption(bucket, SSEConfig(SSE.new_sse_s3_rule())),
    "remove encryption": lambda _, client, bucket: client.delete_bucket_encryption(bucket),
    "get replication": lambda _, client, bucket: client.get_bucket_replication(bucket),
    "remove replication": lambda _, client, bucket: client.delete_bucket_replication(bucket),
    "get lock": lambda _, client, bucket: client.get_object_lock_config(bucket),
    "bucket tags": lambda _, client, bucket: client.get_bucket_tags(bucket),
    "set bucket tags": lambda _, client, bucket: client.set_bucket_tags(bucket, tags()),
    "remove bucket tags": lambda _, client, bucket: client.delete_bucket_tags(bucket),
    "remove bucket": lambda _, client, bucket: client.remove_bucket(bucket),
    "make it again": _make_again,
    "make bucket": lambda _, client, bucket: client.make_bucket(f"{bucket}2"),
}
