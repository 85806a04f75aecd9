"""Capture what MinIO really writes to Redis: one file per case, byte for byte. Usage: capture.py [FOLDER]

Starts a `minio` and a `redis-server` of its own (found on PATH, as `mc` is) on free ports in a temporary folder;
when it ends, they are gone. README.md says what each case shows.
"""

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import redis
import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource, Tags
from minio.datatypes import PostPolicy
from minio.notificationconfig import NotificationConfig, QueueConfig

from stems.contract import EVENT_NAMES
from stems.naming import NOTIFICATIONS, QUEUE_BUCKET

HASH = "stems:namespace"  # where MinIO's other format, `namespace`, writes to
USER, PASSWORD = "capture", "capture-secret"
WAIT_S = 20.0
SONG, OTHER_SONG = b"ID3\x04" + bytes(2044), b"ID3\x04" + bytes(1020)
MULTIPART_BYTES = (64 << 20) + 1  # `mc cp` divides what is larger than 64 MiB

ODD_KEYS = {
    "key-spaces": "two  spaces and one .mp3",
    "key-plus": "drum+bass.mp3",
    "key-percent": "100% real%20name %2F.mp3",
    "key-folders": "artist/album (live)/01 song.mp3",
    "key-leading-dash": "-rf.mp3",
    "key-unicode": "Björk – Jóga ラジオ.flac",
    "key-decomposed": "Bjo\u0308rk.mp3",
    "key-emoji": "🥁🎸.mp3",
    "key-reserved": "a&b=c?d#e;f:g@h,i!'\"<>[]{}|^~`$*.mp3",
}

Case = tuple[str, Callable[[], object]]


def main(folder: Path) -> int:
    """Write the samples into `folder`, and what a listing says of the same objects into `folder`/listing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end as well
    (folder / "listing").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_port, minio_port = _free_port(), _free_port()
        redis_log = stack.enter_context(_server(temporary, {}, *_redis_command(redis_port)))
        state = stack.enter_context(redis.Redis(port=redis_port))
        _until(state.ping, redis_log)
        endpoint = f"127.0.0.1:{minio_port}"
        minio_log = stack.enter_context(_server(temporary, _minio_variables(redis_port), *_minio_command(endpoint)))
        client = Minio(endpoint, USER, PASSWORD, secure=False, region="us-east-1")
        _until(client.list_buckets, minio_log)
        client.make_bucket(QUEUE_BUCKET)
        _until(lambda: _subscribe(client, EVENT_NAMES), minio_log)  # the targets come up after the server
        for name, (key, act) in _cases(client, endpoint, temporary).items():
            act()
            payload = _arrived(state, name)
            (folder / f"{name}.json").write_bytes(payload)
            (folder / "listing" / f"{name}.json").write_text(_listing(client, key))
            print(f"{name}: {len(payload)} bytes")
        (folder / "namespace.json").write_bytes(state.hget(HASH, f"{QUEUE_BUCKET}/posted.mp3"))
        # Only a notification of everything that "creates" tells of tags.
        _subscribe(client, ("s3:ObjectCreated:*",))
        client.set_object_tags(QUEUE_BUCKET, "song.mp3", _tags(state="done"))
        (folder / "put-tagging.json").write_bytes(_arrived(state, "put-tagging"))
    return 0


def _cases(client: Minio, endpoint: str, temporary: Path) -> dict[str, Case]:
    """Return the object key and the action of every case, by name, in an order that makes sense."""

    def put(key: str, body: bytes) -> Case:
        return key, lambda: client.put_object(QUEUE_BUCKET, key, io.BytesIO(body), len(body), content_type="audio/mpeg")

    def copy(key: str, metadata: dict[str, str | list[str] | tuple[str]] | None = None) -> Case:
        source, directive = CopySource(QUEUE_BUCKET, "song.mp3"), REPLACE if metadata else None
        return key, lambda: client.copy_object(
            QUEUE_BUCKET, key, source, metadata=metadata, metadata_directive=directive
        )

    def mc(key: str, size: int, *options: str) -> Case:
        file = temporary / key
        with file.open("wb") as out:
            out.truncate(size)
        variables = {"MC_HOST_queue": f"http://{USER}:{PASSWORD}@{endpoint}", "HOME": str(temporary)}
        command = [_program("mc"), "cp", "--quiet", *options, str(file), f"queue/{QUEUE_BUCKET}/{key}"]
        return key, lambda: subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)

    return {
        "put": put("song.mp3", SONG),
        "overwrite": put("song.mp3", OTHER_SONG),
        "put-empty": put("empty.mp3", b""),
        "post": ("posted.mp3", lambda: _post(client, endpoint, "posted.mp3")),
        "copy-other-key": copy("copy.mp3"),
        "copy-same-key": copy("song.mp3", {"stems": "drums"}),
        **{name: put(key, SONG) for name, key in ODD_KEYS.items()},
        "metadata": mc("karaoke.mp3", 2048, "--attr", "stems=vocals;format=flac"),
        "multipart": mc("large.wav", MULTIPART_BYTES),
    }


def _post(client: Minio, endpoint: str, key: str) -> None:
    """Upload as the form of a web page does."""
    policy = PostPolicy(QUEUE_BUCKET, datetime.now(UTC) + timedelta(hours=1))
    policy.add_equals_condition("key", key)
    fields: dict[str, Any] = {**client.presigned_post_policy(policy), "key": key, "file": (key, SONG, "audio/mpeg")}
    answer = urllib3.request("POST", f"http://{endpoint}/{QUEUE_BUCKET}", fields=fields)
    if answer.status != 204:
        raise SystemExit(f"the form was answered with {answer.status}: {answer.data!r}")


def _subscribe(client: Minio, events: tuple[str, ...]) -> None:
    queues = [QueueConfig(queue=f"arn:minio:sqs::{name}:redis", events=list(events)) for name in ("FAST", "NAMESPACE")]
    client.set_bucket_notification(QUEUE_BUCKET, NotificationConfig(queue_config_list=queues))


def _arrived(state: redis.Redis, name: str) -> bytes:
    """Return the one payload that is in the list, or comes soon."""
    found = state.blpop([NOTIFICATIONS], timeout=WAIT_S)
    if not found or state.llen(NOTIFICATIONS):
        raise SystemExit(f"{name}: expected one notification, got {'none' if not found else 'more'}")
    return cast(bytes, found[1])


def _listing(client: Minio, key: str) -> str:
    """Return what a listing with tags and metadata says of the object."""
    for item in client.list_objects(QUEUE_BUCKET, recursive=True, include_user_meta=True):
        if item.object_name == key and item.last_modified:
            shown = {
                "bucket": QUEUE_BUCKET,
                "key": key,
                "etag": item.etag,
                "size": item.size,
                "last_modified": item.last_modified.isoformat(timespec="milliseconds"),
                "metadata": dict(item.metadata or {}),
            }
            return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
    raise SystemExit(f"{key!r} is not in the listing")


def _tags(**values: str) -> Tags:
    tags = Tags.new_object_tags()
    tags.update(values)
    return tags


def _redis_command(port: int) -> tuple[str, ...]:
    return (_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", ".")


def _minio_command(endpoint: str) -> tuple[str, ...]:
    return (_program("minio"), "server", "--address", endpoint, "data")


def _minio_variables(redis_port: int) -> dict[str, str]:
    variables = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_BROWSER": "off"}
    for name, key, kind in (("FAST", NOTIFICATIONS, "access"), ("NAMESPACE", HASH, "namespace")):
        variables |= {
            f"MINIO_NOTIFY_REDIS_ENABLE_{name}": "on",
            f"MINIO_NOTIFY_REDIS_ADDRESS_{name}": f"127.0.0.1:{redis_port}",
            f"MINIO_NOTIFY_REDIS_KEY_{name}": key,
            f"MINIO_NOTIFY_REDIS_FORMAT_{name}": kind,
        }
    return variables


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is not on PATH")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(folder: Path, variables: Mapping[str, str], *command: str) -> Iterator[Path]:
    """Run a server in `folder` and stop it at the end; yield its log."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={"HOME": str(folder), **variables}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield log
    finally:
        process.terminate()
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(ask: Callable[[], object], log: Path) -> None:
    """Ask a server until it answers."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            ask()
            return
        # Each client has errors of its own for "not yet".
        except Exception as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"{log.name} after {WAIT_S:g} s: {error}\n{log.read_text()}") from error
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
