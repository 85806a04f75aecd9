"""minio-config/apply.py against a real MinIO and Redis: what it sets up, and that nobody may do more than he needs."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED, CopySource, Filter, Tags
from minio.credentials.providers import StaticProvider
from minio.datatypes import PostPolicy
from minio.error import MinioAdminException, S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.notificationconfig import NotificationConfig, QueueConfig

from stems.contract import EVENT_NAMES
from tests.programs import need

ROOT = Path(__file__).parents[2]
USERS = ("separate", "tracks", "relay", "uploader")
SECRETS = {user: f"{user}-secret" for user in USERS}
STRANGERS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::queue/*"],
        }
    ],
}
Outcome = dict[str, str]


@dataclass(frozen=True, slots=True)
class Server:
    """A running MinIO with the Redis that it notifies."""

    endpoint: str
    redis: redis.Redis

    def login(self, user: str, secret: str | None = None) -> Minio:
        """Return the client of a user."""
        return Minio(self.endpoint, user, secret or SECRETS.get(user, "root-secret"), secure=False, region="us-east-1")

    def admin(self, user: str = "root") -> MinioAdmin:
        """Return the administration client of a user."""
        provider = StaticProvider(user, SECRETS.get(user, "root-secret"))
        return MinioAdmin(endpoint=self.endpoint, credentials=provider, secure=False)

    def start_apply(self, **settings: str) -> "subprocess.Popen[str]":
        """Start apply.py with the settings of these tests and `settings` on top."""
        environ = {
            "PYTHONPATH": str(ROOT / "functions"),
            "STEMS_S3_ENDPOINT": f"http://{self.endpoint}",
            "MINIO_ROOT_USER": "root",
            "MINIO_ROOT_PASSWORD": "root-secret",
            **{f"STEMS_{user.upper()}_SECRET_KEY": secret for user, secret in SECRETS.items()},
            **settings,
        }
        command = [sys.executable, str(ROOT / "minio-config" / "apply.py")]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def apply(self, **settings: str) -> Outcome:
        """Run apply.py; return what it says it did to what, leaving out what it left alone."""
        return outcome(self.start_apply(**settings))

    def refused(self, **settings: str) -> str:
        """Run apply.py, which must fail, and return its one line of error."""
        with self.start_apply(**settings) as process:
            _, errors = process.communicate()
        assert process.returncode == 1
        (line,) = errors.splitlines()
        return line


def outcome(process: "subprocess.Popen[str]") -> Outcome:
    """Wait for apply.py and read its lines."""
    with process:
        printed, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    lines = dict(line.rsplit(": ", 1) for line in printed.splitlines())
    assert len(lines) == len(printed.splitlines()) > 10
    (first,) = [thing for thing in lines if thing.startswith("MinIO at ")]
    assert lines.pop(first) == "ready"
    return {thing: done for thing, done in lines.items() if done != "unchanged"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*command: str, log: Path, environ: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a server until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=environ, stdout=out, stderr=subprocess.STDOUT)
    with process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def minio(folder: Path, **variables: str) -> Iterator[tuple[Server, Outcome]]:
    """Start Redis, apply.py and then MinIO; yield the server and what apply.py did."""
    program, redis_port, endpoint = need("minio"), free_port(), f"127.0.0.1:{free_port()}"
    environ = {
        "HOME": str(folder),
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": "root-secret",
        "MINIO_BROWSER": "off",
    }
    for target in ("FAST", "DURABLE", "OTHER"):
        values = {"ENABLE": "on", "ADDRESS": f"127.0.0.1:{redis_port}", "KEY": target, "FORMAT": "access"}
        environ |= {f"MINIO_NOTIFY_REDIS_{name}_{target}": value for name, value in values.items()}
    environ |= {"MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE": str(folder / "events"), **variables}
    command = (need("redis-server"), "--port", str(redis_port), "--save", "", "--dir", str(folder))
    with ExitStack() as stack:
        stack.enter_context(running(*command, log=folder / "redis.log"))
        server = Server(endpoint, stack.enter_context(redis.Redis(port=redis_port, decode_responses=True)))
        applying = server.start_apply(STEMS_S3_REGION=variables.get("MINIO_SITE_REGION", "us-east-1"))
        time.sleep(0.5)  # it has to wait
        stack.enter_context(
            running(program, "server", "--address", endpoint, "data", log=folder / "minio.log", environ=environ)
        )
        yield server, outcome(applying)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Outcome]]:
    with minio(tmp_path_factory.mktemp("minio")) as (server, done):
        yield server, done


@pytest.fixture(scope="module")
def server(fresh: tuple[Server, Outcome]) -> Server:
    """A MinIO that has been set up, with an object, its tags and its metadata in each bucket."""
    root = fresh[0].login("root")
    for bucket in ("queue", "output"):
        body, tags = io.BytesIO(b"song"), Tags.new_object_tags()
        tags["state"] = "done"
        root.put_object(bucket, "there", body, 4, metadata={"stems": "vocals"}, tags=tags)
    return fresh[0]


# --- idempotence


def test_a_fresh_server_gets_everything(fresh: tuple[Server, Outcome]) -> None:
    assert fresh[1] == {
        "bucket queue": "created",
        "bucket output": "created",
        "notification of FAST, DURABLE": "created",
        **{f"policy {user}": "created" for user in USERS},
        **{f"user {user}": "created, policy attached" for user in USERS},
    }


def test_applying_again_changes_nothing(server: Server) -> None:
    # MinIO returns targets and policies in another order every time.
    for _ in range(3):
        assert server.apply() == {}


# --- who may do what


def upload_id(server: Server, bucket: str) -> str:
    """Begin a multipart upload as root."""
    return str(server.login("root")._create_multipart_upload(bucket, "parts", {}))


def tags() -> Tags:
    made = Tags.new_object_tags()
    made["state"] = "done"
    return made


def _put(server: Server, client: Minio, bucket: str) -> object:
    return client.put_object(bucket, "new", io.BytesIO(b"song"), 4)


def _multipart(server: Server, client: Minio, bucket: str) -> object:
    return client.put_object(bucket, "new", io.BytesIO(bytes(5 << 20 | 1)), 5 << 20 | 1, part_size=5 << 20)


def _copy(server: Server, client: Minio, bucket: str) -> object:
    return client.copy_object(bucket, "new", CopySource(bucket, "there"))


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
    ("separate", "output"): READ | LOOK | {"put", "put parts", "copy", "abort"},
    ("tracks", "queue"): READ | LOOK | {"get tags"},
    ("tracks", "output"): READ | LOOK,
    ("relay", "queue"): LOOK | {"get tags", "set tags"},
    ("relay", "output"): LOOK,
    ("uploader", "queue"): READ
    | LOOK
    | {"put", "put parts", "copy", "remove", "get tags", "set tags"}
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


def test_a_listing_of_the_relay_has_tags(server: Server) -> None:
    found = server.login("relay").list_objects("queue", recursive=True, include_user_meta=True)
    (item,) = [item for item in found if item.object_name == "there"]
    assert item.tags == {"state": "done"}


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


# --- notification


def post(client: Minio, endpoint: str, key: str) -> None:
    """Upload with the form of a presigned POST."""
    policy = PostPolicy("queue", datetime.now(UTC) + timedelta(minutes=5))
    policy.add_equals_condition("key", key)
    fields: dict[str, Any] = {**client.presigned_post_policy(policy), "key": key, "file": (key, b"song")}
    assert urllib3.request("POST", f"http://{endpoint}/queue", fields=fields).status == 204


def test_each_kind_of_upload_arrives_once_per_target(server: Server) -> None:
    client, state = server.login("uploader"), server.redis
    client.put_object("queue", "put", io.BytesIO(b"song"), 4)
    client.set_object_tags("queue", "put", tags())
    post(client, server.endpoint, "post")
    client.copy_object("queue", "copy", CopySource("queue", "put"))
    client.put_object("queue", "parts", io.BytesIO(bytes(5 << 20 | 1)), 5 << 20 | 1, part_size=5 << 20)
    client.remove_object("queue", "put")
    # Uploads of the tests before are in the lists as well; this one is the last.
    client.put_object("queue", "last", io.BytesIO(b"song"), 4)
    for target in ("FAST", "DURABLE"):
        arrived: Counter[tuple[str, str]] = Counter()
        while ("last", "s3:ObjectCreated:Put") not in arrived:
            popped: Any = state.blpop([target], timeout=15)
            assert popped, f"{target}: only {arrived}"
            (entry,) = json.loads(popped[1])
            (record,) = entry["Event"]
            arrived[record["s3"]["object"]["key"], record["eventName"]] += 1
        assert {kind for _, kind in arrived} == set(EVENT_NAMES)
        for key, kind in zip(("put", "post", "copy", "parts"), EVENT_NAMES, strict=True):
            assert arrived[key, kind] == 1
        assert state.llen(target) == 0
    assert state.llen("OTHER") == 0


def queues(server: Server) -> dict[str, list[str]]:
    """Return the events of each notification of the bucket queue, by ARN."""
    found = server.login("root").get_bucket_notification("queue").queue_config_list
    assert len({queue.queue for queue in found}) == len(found)
    return {queue.queue or "": sorted(queue.events) for queue in found}


def test_notifications_of_others_stay(server: Server) -> None:
    fast, durable, other = (f"arn:minio:sqs::{target}:redis" for target in ("FAST", "DURABLE", "OTHER"))
    ours = {arn: sorted(EVENT_NAMES) for arn in (fast, durable)}
    assert queues(server) == ours
    by_hand = [QueueConfig(queue=arn, events=["s3:ObjectCreated:*"]) for arn in (other, fast)]
    server.login("root").set_bucket_notification("queue", NotificationConfig(queue_config_list=by_hand))
    assert server.apply() == {"notification of FAST, DURABLE": "updated"}
    assert queues(server) == ours | {other: ["s3:ObjectCreated:*"]}
    assert server.apply(STEMS_NOTIFY_TARGETS=" DURABLE ") == {"notification of DURABLE": "updated"}
    assert queues(server) == {durable: ours[durable], other: ["s3:ObjectCreated:*"]}
    server.login("root").set_bucket_notification("queue", NotificationConfig())
    assert server.apply() == {"notification of FAST, DURABLE": "created"}


def test_an_unknown_target_is_named(server: Server) -> None:
    line = server.refused(STEMS_NOTIFY_TARGETS="FAST,NOPE")
    assert line.startswith("error: notification of FAST, NOPE: ")
    assert "no Redis target NOPE" in line
    assert "MINIO_NOTIFY_REDIS_{ENABLE,ADDRESS,KEY,FORMAT}_NOPE" in line
    assert set(queues(server)) == {"arn:minio:sqs::FAST:redis", "arn:minio:sqs::DURABLE:redis"}


# --- users and policies


def test_a_changed_secret_works_after_applying(server: Server) -> None:
    assert server.apply(STEMS_TRACKS_SECRET_KEY="another-secret") == {"user tracks": "updated"}
    assert list(server.login("tracks", "another-secret").list_objects("output"))
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        server.login("tracks").list_objects("output").__next__()
    assert server.apply() == {"user tracks": "updated"}
    assert list(server.login("tracks").list_objects("output"))


def test_more_rights_are_taken_away_again(server: Server) -> None:
    admin, root = server.admin(), server.login("root")
    admin.policy_set("readwrite,tracks", user="tracks")
    admin.policy_add("relay", policy=json.loads((ROOT / "minio-config/policies/uploader.json").read_text()))
    admin.user_disable("separate")
    root.set_bucket_policy("queue", json.dumps(STRANGERS))
    assert urllib3.request("GET", f"http://{server.endpoint}/queue/there").status == 200
    assert server.apply() == {
        "anonymous access to queue": "removed",
        "policy relay": "updated",
        "user tracks": "policy attached",
        "user separate": "updated",
    }
    assert urllib3.request("GET", f"http://{server.endpoint}/queue/there").status == 403
    assert list(server.login("separate").list_objects("output"))
    assert server.apply() == {}


def test_a_group_that_gives_more_is_an_error(server: Server) -> None:
    admin = server.admin()
    admin.group_add("friends", ["relay"])  # type: ignore[arg-type]
    line = server.refused()
    admin.group_remove("friends", ["relay"])  # type: ignore[arg-type]
    assert line.startswith("error: user relay: ")
    assert "friends" in line
    assert server.apply() == {}


# --- expiry


def expiry(server: Server, bucket: str) -> dict[str, int | None]:
    """Return the days of each expiry rule of a bucket."""
    config = server.login("root").get_bucket_lifecycle(bucket)
    rules = config.rules if config else []
    return {rule.rule_id or "": rule.expiration.days if rule.expiration else None for rule in rules}


def test_expiry_comes_and_goes_with_its_setting(server: Server) -> None:
    days = {"STEMS_KEEP_UPLOADS_DAYS": "3", "STEMS_KEEP_OUTPUT_DAYS": "30"}
    assert server.apply(**days) == {
        "expiry of queue after 3 days": "created",
        "expiry of output after 30 days": "created",
    }
    assert expiry(server, "queue") == {"stems-expire": 3}
    assert expiry(server, "output") == {"stems-expire": 30}
    assert server.apply(**days) == {}
    days["STEMS_KEEP_OUTPUT_DAYS"] = "31"
    assert server.apply(**days) == {"expiry of output after 31 days": "updated"}
    assert server.apply() == {
        "expiry of queue after no days": "removed",
        "expiry of output after no days": "removed",
    }
    assert expiry(server, "queue") == expiry(server, "output") == {}


def test_expiry_rules_of_others_stay(server: Server) -> None:
    other = Rule(ENABLED, rule_filter=Filter(prefix="demo/"), rule_id="demo", expiration=Expiration(days=1))
    server.login("root").set_bucket_lifecycle("queue", LifecycleConfig([other]))
    server.apply(STEMS_KEEP_UPLOADS_DAYS="3")
    assert expiry(server, "queue") == {"demo": 1, "stems-expire": 3}
    server.apply()
    assert expiry(server, "queue") == {"demo": 1}
    server.login("root").delete_bucket_lifecycle("queue")


def test_unfinished_uploads_expire(server: Server) -> None:
    changed = {"expiry of unfinished uploads after 48h": "updated"}
    assert server.apply(STEMS_ABORT_MULTIPART_DAYS="2") == changed
    assert " stale_uploads_expiry=48h " in server.admin().config_get("api")
    assert server.apply() == {"expiry of unfinished uploads after 24h": "updated"}


# --- errors, and another region


def test_missing_settings_are_named(server: Server) -> None:
    assert server.refused(STEMS_RELAY_SECRET_KEY="").endswith("not set: STEMS_RELAY_SECRET_KEY")


def test_a_wrong_root_password_is_said_at_once(server: Server) -> None:
    line = server.refused(MINIO_ROOT_PASSWORD="guessed-secret")
    assert line.startswith(f"error: MinIO at http://{server.endpoint}: SignatureDoesNotMatch")


def test_a_secret_that_minio_refuses(server: Server) -> None:
    assert server.refused(STEMS_TRACKS_SECRET_KEY="short").startswith("error: user tracks: XMinioAdminInvalidSecretKey")
    assert server.apply() == {}


def test_a_server_with_a_region_and_an_expiry_of_its_own(tmp_path: Path) -> None:
    with minio(tmp_path, MINIO_SITE_REGION="eu-1", MINIO_API_STALE_UPLOADS_EXPIRY="24h") as (server, done):
        assert done["notification of FAST, DURABLE"] == "created"
        assert server.apply(STEMS_S3_REGION="eu-1") == {}
        client = Minio(server.endpoint, "root", "root-secret", secure=False, region="eu-1")
        arns = {queue.queue for queue in client.get_bucket_notification("queue").queue_config_list}
        assert arns == {"arn:minio:sqs:eu-1:FAST:redis", "arn:minio:sqs:eu-1:DURABLE:redis"}
        assert "eu-1" in server.refused()
        line = server.refused(STEMS_S3_REGION="eu-1", STEMS_ABORT_MULTIPART_DAYS="2")
        assert "MINIO_API_STALE_UPLOADS_EXPIRY=24h" in line
