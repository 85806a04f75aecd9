"""What apply.py sets up, once and again, what it refuses, and another region."""

from pathlib import Path

from minio import Minio

from tests.minio_server import USERS, Outcome, Server, minio


def test_a_fresh_server_gets_everything(fresh: tuple[Server, Outcome]) -> None:
    assert fresh[1] == {
        "bucket queue": "created",
        "bucket output": "created",
        "expiry of parts of songs after 7 days": "created",
        "notification of FAST, DURABLE": "created",
        **{f"policy {user}": "created" for user in USERS},
        **{f"user {user}": "created, policy attached" for user in USERS},
    }


def test_applying_again_changes_nothing(server: Server) -> None:
    # MinIO returns targets and policies in another order every time.
    for _ in range(3):
        assert server.apply() == {}


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
