"""Settings: defaults, and errors that say which variable is wrong."""

import base64
import dataclasses

import pytest
import redis

from stems import config
from stems.config import Settings
from stems.errors import ConfigError

SECRETS = (
    "STEMS_S3_SECRET_KEY",
    "MINIO_ROOT_PASSWORD",
    "STEMS_SEPARATE_SECRET_KEY",
    "STEMS_TRACKS_SECRET_KEY",
    "STEMS_RELAY_SECRET_KEY",
    "STEMS_UPLOADER_SECRET_KEY",
)


def test_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.s3_endpoint == "http://127.0.0.1:9000"
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.max_in_flight == 1
    assert settings.delivery_timeout_s == 600.0
    assert settings.notify_targets == "FAST,DURABLE"
    assert (settings.keep_uploads_days, settings.keep_output_days, settings.abort_multipart_days) == (0, 0, 1)
    assert settings.s3_access_key == settings.minio_root_password == ""
    assert settings.sink == ()


def test_every_default_is_valid() -> None:
    written = {env: default for env, default in config.table() if default}
    assert Settings.from_env(written) == Settings.from_env({})


def test_variables_are_read() -> None:
    settings = Settings.from_env({"STEMS_MAX_IN_FLIGHT": "4", "K_SINK": "http://separate.default/", "OTHER": "x"})
    assert settings.max_in_flight == 4
    assert settings.sink == ("http://separate.default",)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMS_MODEL", "htdemucs")
    assert Settings.from_env().model == "htdemucs"


def test_empty_is_unset() -> None:
    assert Settings.from_env({"STEMS_SWEEP_S": "", "K_SINK": ""}) == Settings.from_env({})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STEMS_S3_ENDPOINT", "minio:9000"),
        ("STEMS_S3_ENDPOINT", "http://"),
        ("STEMS_S3_ENDPOINT", "http://[::1"),
        ("STEMS_S3_ENDPOINT", "http://minio:port"),
        ("STEMS_HOSTS", "https://stems.example.com"),
        ("STEMS_HOSTS", "stems.example.com:8080"),
        ("STEMS_PROXIES", "-1"),
        ("K_SINK", "ftp://separate"),
        ("STEMS_LOG_LEVEL", "debug"),
        ("STEMS_LOG_FORMAT", "xml"),
        ("STEMS_MAX_IN_FLIGHT", "0"),
        ("STEMS_MAX_IN_FLIGHT", "two"),
        ("STEMS_MAX_IN_FLIGHT", "1.5"),
        ("STEMS_DELIVERY_TIMEOUT_S", "0.5"),
        ("STEMS_DELIVERY_TIMEOUT_S", "inf"),
        ("STEMS_DELIVERY_TIMEOUT_S", "nan"),
        ("STEMS_DELIVERY_TIMEOUT_S", "10m"),
        ("STEMS_CALLBACK_NETWORKS", "10.0.0.1/8"),
        ("STEMS_CALLBACK_NETWORKS", "example.com"),
        ("STEMS_CALLBACK_ATTEMPTS", "0"),
        ("STEMS_CALLBACK_TIMEOUT_S", "0"),
        ("STEMS_APIV1_MAX_MB", "0.5"),
        ("STEMS_KEEP_UPLOADS_DAYS", "-1"),
        ("STEMS_ABORT_MULTIPART_DAYS", "0"),
    ],
)
def test_wrong_values_name_variable_and_value(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value).startswith(f"{variable}={value!r}: ")


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("STEMS_CALLBACK", "ftp://hunter2", "not an http:// or https:// address"),
        ("STEMS_URL", "htp://user:hunter2@x", "not an http:// or https:// address"),
        ("STEMS_URL", "http://user:hun/ter2@x", "not an http:// or https:// address"),
        ("STEMS_CALLBACK", "http://u:hunter2@x", "no user and password may stand in it"),
        ("STEMS_CALLBACK_SECRET", "hunter2", "must be whsec_ and base64"),
        ("STEMS_CALLBACK_SECRET", "whsec_aHVudGVyMg==", "must be whsec_ and 24 to 64 bytes in base64"),
        ("STEMS_CALLBACK_SONG_SECRET", "whsec_" + "A" * 88, "must be whsec_ and 24 to 64 bytes in base64"),
    ],
)
def test_what_signs_or_may_hold_a_token_is_not_shown(variable: str, value: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value) == f"{variable}=(secret): {why}"


def test_secrets_of_callbacks() -> None:
    first, second = base64.b64encode(b"a" * 24).decode(), base64.b64encode(b"b" * 64).decode()
    settings = Settings.from_env({"STEMS_CALLBACK_SECRET": f" whsec_{first}  {second}"})
    assert settings.callback_secret == (b"a" * 24, b"b" * 64)
    assert "aaaa" not in repr(settings)
    assert (Settings.from_env({}).callback_secret, Settings.from_env({}).callback_networks) == ((), ())


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"STEMS_REDIS_URL": "http://:hunter2@redis"})
    assert str(caught.value) == "STEMS_REDIS_URL=(secret): not a redis:// address"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["redis://:pw@h/1", "redis://:p/w@h/0", "rediss://h/0?db=2", "unix:///run/redis?db=1"])
def test_redis_has_one_database_for_all(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"STEMS_REDIS_URL": url})
    why = "names another database than 0, which is the one that MinIO writes into"
    assert str(caught.value) == f"STEMS_REDIS_URL=(secret): {why}"


@pytest.mark.parametrize(
    "url", ["redis://:pw@h", "redis://h/", "rediss://h:1/0", "redis://h/1?db=0", "unix:///1", "unix://u:p@/run/x?db=0"]
)
def test_addresses_of_redis(url: str) -> None:
    assert Settings.from_env({"STEMS_REDIS_URL": url}).redis_url == url
    assert redis.Redis.from_url(url).get_connection_kwargs().get("db", 0) == 0


def test_secrets_are_not_in_the_repr() -> None:
    values = {variable: f"hunter{number}" for number, variable in enumerate(SECRETS)}
    addresses = {"STEMS_REDIS_URL": "redis://:hunter@redis:6379/0", "STEMS_URL": "http://user:hunter@tracks"}
    addresses["STEMS_REPLY_SINK"] = addresses["K_SINK"] = "http://user:hunter@broker"
    settings = Settings.from_env(values | addresses)
    assert "hunter" not in repr(settings)
    assert settings.s3_secret_key == "hunter0"
    assert settings.redis_url == "redis://:hunter@redis:6379/0"


def test_everything_that_sounds_secret_is_one() -> None:
    named = {
        field.metadata["env"]
        for field in dataclasses.fields(Settings)
        if field.name.endswith(("_secret_key", "_password", "_token"))
    }
    hidden = {field.metadata["env"] for field in dataclasses.fields(Settings) if not field.repr}
    assert named >= set(SECRETS)
    assert hidden >= named


def test_require() -> None:
    settings = Settings.from_env({"STEMS_S3_ACCESS_KEY": "relay", "STEMS_S3_SECRET_KEY": "secret"})
    assert settings.require("s3_access_key", "s3_secret_key") is settings
    with pytest.raises(ConfigError) as caught:
        settings.require("s3_access_key", "sink", "minio_root_password")
    assert str(caught.value) == "not set: K_SINK, MINIO_ROOT_PASSWORD"


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings.from_env({}).model = "htdemucs"  # type: ignore[misc]


def test_the_table_has_every_variable_once() -> None:
    variables = [env for env, _ in config.table()]
    assert len(variables) == len(set(variables)) == len(dataclasses.fields(Settings))
