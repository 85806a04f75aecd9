"""Users and policies that were changed, and how applying mends them."""

import json

import pytest
import urllib3
from minio.error import S3Error

from tests.minio_server import STRANGERS, Server
from tests.programs import CHECKOUT


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
    admin.policy_add("relay", policy=json.loads((CHECKOUT / "minio-config/policies/uploader.json").read_text()))
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
