"""When uploads, output and parts of songs expire."""

from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from tests.minio_server import Server


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
    assert expiry(server, "output") == {"stems-expire": 30, "stems-parts": 7}
    assert server.apply(**days) == {}
    days["STEMS_KEEP_OUTPUT_DAYS"] = "31"
    assert server.apply(**days) == {"expiry of output after 31 days": "updated"}
    assert server.apply() == {
        "expiry of queue after no days": "removed",
        "expiry of output after no days": "removed",
    }
    assert expiry(server, "queue") == {}
    assert expiry(server, "output") == {"stems-parts": 7}


def test_only_parts_of_songs_expire_by_their_setting(server: Server) -> None:
    assert server.apply(STEMS_KEEP_PARTS_DAYS="5") == {"expiry of parts of songs after 5 days": "updated"}
    assert expiry(server, "output") == {"stems-parts": 5}
    config = server.login("root").get_bucket_lifecycle("output")
    assert [rule.rule_filter and rule.rule_filter.prefix for rule in (config.rules if config else [])] == ["parts/"]
    assert server.apply() == {"expiry of parts of songs after 7 days": "updated"}


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
