"""Bring MinIO to the state that README.md describes, as often as you like: what is already so stays untouched.

Prints one line per thing; ends with 0, or with 1 and a line that names the thing.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED, Filter
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.notificationconfig import NotificationConfig, QueueConfig

from stems.config import Settings
from stems.contract import EVENT_NAMES
from stems.errors import ConfigError
from stems.naming import OUTPUT_BUCKET, PARTS_FOLDER, QUEUE_BUCKET

USERS = ("separate", "tracks", "relay", "uploader")
RETRIES = urllib3.Retry(60, read=1, status_forcelist=(502, 503, 504), backoff_factor=0.1, backoff_max=1)  # a minute
TARGETS_WAIT_S = 5.0  # the targets come up a moment after the server does
OURS = "stems-"  # begins the ids of our notifications and lifecycle rules: all others are left alone
UNCHANGED = "unchanged"


def main() -> int:
    """Apply everything; return the exit code."""
    thing = "settings"
    try:
        settings = Settings.from_env().require("minio_root_user", "minio_root_password", "notify_targets")
        settings.require(*(f"{user}_secret_key" for user in USERS))
        for thing, apply in steps(settings):
            print(f"{thing}: {apply()}", flush=True)
    # The edge of the process: whatever goes wrong, the operator wants one line that names the thing.
    except Exception as error:
        print(f"error: {thing}: {_message(error)}", file=sys.stderr)
        return 1
    return 0


def steps(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of every thing and what brings it about; that returns what it did in a word or two."""
    client, admin = _login(settings, settings.minio_root_user, settings.minio_root_password)
    yield f"MinIO at {settings.s3_endpoint}", partial(wait_ready, admin)
    for bucket, days in ((QUEUE_BUCKET, settings.keep_uploads_days), (OUTPUT_BUCKET, settings.keep_output_days)):
        yield f"bucket {bucket}", partial(make_bucket, client, bucket)
        yield f"anonymous access to {bucket}", partial(close_to_strangers, client, bucket)
        yield f"expiry of {bucket} after {days or 'no'} days", partial(set_expiry, client, bucket, days)
    days = settings.keep_parts_days
    yield (
        f"expiry of parts of songs after {days} days",
        partial(set_expiry, client, OUTPUT_BUCKET, days, "parts", PARTS_FOLDER),
    )
    age = f"{24 * settings.abort_multipart_days}h"
    yield f"expiry of unfinished uploads after {age}", partial(set_stale_uploads, admin, age)
    targets = [*dict.fromkeys(settings.notify_targets.replace(",", " ").split())]
    yield f"notification of {', '.join(targets)}", partial(set_notification, client, admin, targets)
    for user in USERS:
        yield f"policy {user}", partial(set_policy, admin, user)
        yield f"user {user}", partial(set_user, admin, user, settings)


def wait_ready(admin: MinioAdmin) -> str:
    """Return when the server takes admin requests; fail when RETRIES are used up."""
    admin.info()
    return "ready"


def make_bucket(client: Minio, bucket: str) -> str:
    """Make a bucket unless it is there."""
    if client.bucket_exists(bucket):
        return UNCHANGED
    client.make_bucket(bucket)
    return "created"


def close_to_strangers(client: Minio, bucket: str) -> str:
    """Remove the bucket's own policy, which is what gives access without a key."""
    if not _unless("NoSuchBucketPolicy", partial(client.get_bucket_policy, bucket)):
        return UNCHANGED
    client.delete_bucket_policy(bucket)
    return "removed"


def set_expiry(client: Minio, bucket: str, days: int, rule: str = "expire", prefix: str = "") -> str:
    """Let objects of a bucket whose names begin with `prefix` expire after `days`, or never (0)."""
    config, name = client.get_bucket_lifecycle(bucket), f"{OURS}{rule}"
    rules = {rule.rule_id: rule for rule in config.rules} if config else {}
    before = rules.pop(name, None)
    if days:
        rules[name] = Rule(ENABLED, rule_filter=Filter(prefix=prefix), rule_id=name, expiration=Expiration(days=days))
    if before == rules.get(name):
        return UNCHANGED
    if rules:
        client.set_bucket_lifecycle(bucket, LifecycleConfig([*rules.values()]))
    else:
        client.delete_bucket_lifecycle(bucket)
    return ("updated" if before else "created") if days else "removed"


def set_stale_uploads(admin: MinioAdmin, age: str) -> str:
    """Let parts of multipart uploads that nobody completes expire: a setting of the whole server."""
    config = admin.config_get("api")
    forced = re.search(r"MINIO_API_STALE_UPLOADS_EXPIRY=(\S+)", config)
    if forced and forced[1] != age:
        raise ConfigError(f"the server's own {forced[0]} wins: unset it there or make it {age}")
    if forced or f" stale_uploads_expiry={age} " in config:
        return UNCHANGED
    admin.config_set("api", {"stale_uploads_expiry": age})
    return "updated"


def set_notification(client: Minio, admin: MinioAdmin, targets: list[str]) -> str:
    """Tell every target of the four kinds of upload. Raises ConfigError for one that the server does not know."""
    deadline = time.monotonic() + TARGETS_WAIT_S
    while missing := [name for name in targets if name not in (arns := _arns(admin))]:
        if time.monotonic() > deadline:
            variables = f"MINIO_NOTIFY_REDIS_{{ENABLE,ADDRESS,KEY,FORMAT}}_{missing[0]}"
            raise ConfigError(f"MinIO has no Redis target {missing[0]}, only {[*arns]}: start it with {variables}")
        time.sleep(0.3)
    wanted = {arns[id_]: QueueConfig(queue=arns[id_], events=[*EVENT_NAMES], config_id=OURS + id_) for id_ in targets}
    queues = client.get_bucket_notification(QUEUE_BUCKET).queue_config_list
    # One by another hand to the same target would put its events into our list as well.
    ours = [queue for queue in queues if (queue.config_id or "").startswith(OURS) or queue.queue in wanted]
    if len(ours) == len(wanted) and all(queue in ours for queue in wanted.values()):
        return UNCHANGED
    others = [queue for queue in queues if queue not in ours]
    client.set_bucket_notification(QUEUE_BUCKET, NotificationConfig(queue_config_list=[*others, *wanted.values()]))
    return "updated" if ours else "created"


def set_policy(admin: MinioAdmin, name: str) -> str:
    """Store the policy of policies/<name>.json."""
    wanted = Path(__file__).with_name("policies").joinpath(f"{name}.json").read_text()
    before = _unless("XMinioAdminNoSuchPolicy", partial(admin.policy_info, name))
    if before and json.loads(before, object_hook=_in_order) == json.loads(wanted, object_hook=_in_order):
        return UNCHANGED
    admin.policy_add(name, policy=json.loads(wanted))
    return "updated" if before else "created"


def set_user(admin: MinioAdmin, name: str, settings: Settings) -> str:
    """Make the user, enabled, with the secret of the settings and no policy but that of its name."""
    done, secret = [], getattr(settings, f"{name}_secret_key")
    before = json.loads(_unless("XMinioAdminNoSuchUser", partial(admin.user_info, name)) or "{}")
    if not _unless("SignatureDoesNotMatch|InvalidAccessKeyId", _login(settings, name, secret)[1].account_info):
        admin.user_add(name, secret)
        done.append("updated" if before else "created")
    if before.get("memberOf"):
        raise ConfigError(f"in the groups {', '.join(before['memberOf'])}, whose policies it has too: take it out")
    if before.get("policyName") != name:
        admin.policy_set(name, user=name)  # replaces, where attach_policy adds
        done.append("policy attached")
    return ", ".join(done) or UNCHANGED


def _login(settings: Settings, user: str, secret: str) -> tuple[Minio, MinioAdmin]:
    scheme, _, endpoint = settings.s3_endpoint.partition("://")
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=3, read=30), retries=RETRIES)
    provider, secure = StaticProvider(user, secret), scheme == "https"
    client = Minio(endpoint, credentials=provider, secure=secure, region=settings.s3_region, http_client=pool)
    return client, MinioAdmin(endpoint=endpoint, credentials=provider, secure=secure, http_client=pool)


def _arns(admin: MinioAdmin) -> dict[str, str]:
    """Return the Redis targets by name, each ARN as the server writes it: with its region, where it has one."""
    known: list[str] = json.loads(admin.info()).get("sqsARN") or []
    return {arn.split(":")[-2]: arn for arn in known if arn.endswith(":redis")}


def _in_order(part: dict[str, Any]) -> dict[str, Any]:
    """Sort the lists of a policy: MinIO returns them in any order."""
    return {key: sorted(value, key=str) if isinstance(value, list) else value for key, value in part.items()}


def _unless(codes: str, ask: Callable[[], str]) -> str:
    """Return the answer, or nothing where it is an error with one of these codes."""
    try:
        return ask()
    except (S3Error, MinioAdminException) as error:
        if not re.match(codes, _message(error)):
            raise
    return ""


def _message(error: Exception) -> str:
    """Say what went wrong in one line."""
    if isinstance(error, S3Error):
        return f"{error.code}: {error.message}"
    if found := re.search(r'"Code":"(.*?)","Message":"(.*?)"', getattr(error, "_body", "")):
        return f"{found[1]}: {found[2]}"
    return f"{type(error).__name__}: {' '.join(str(getattr(error, 'reason', error)).split())}"


if __name__ == "__main__":
    sys.exit(main())
