"""All settings, read once per process from the environment; the only module that looks at it.

Each field below is one environment variable; README.md lists the same ones and a test compares the two.
"""

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dotenv import dotenv_values

from stems import address
from stems.errors import ConfigError

Secrets = tuple[bytes, ...]

# How exactly `separate` computes: README.md says what each is worth.
EXACT, CLOSE, FAST = "exact", "close", "fast"
PRECISIONS = (EXACT, CLOSE, FAST)
# What `separate` computes on: a graphics card where there is one that can be used, or either of both.
AUTO, CPU, CUDA = "auto", "cpu", "cuda"
DEVICES = (AUTO, CPU, CUDA)

# What songs are divided for, beyond those that are long: events/README.md.
THROUGHPUT, LATENCY = "throughput", "latency"

# In place of a file: nobody is asked who he is.
NO_TOKENS = "none"

_HOST = re.compile(r"[a-z0-9._-]{1,253}")


def _text(value: str) -> str:
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    try:
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # it shows what it takes for a port, which may be the beginning of a password
        good = False
    if not good:
        raise ValueError("not an http:// or https:// address")
    return value.rstrip("/")


def _urls(value: str) -> tuple[str, ...]:
    return tuple(map(_url, value.split()))


def _webhook_secrets(value: str) -> Secrets:
    """Read the secrets of Standard Webhooks, `whsec_` and 24 to 64 bytes in base64, with blanks between."""
    try:
        found = tuple(base64.b64decode(word.removeprefix("whsec_"), validate=True) for word in value.split())
    except ValueError:
        raise ValueError("must be whsec_ and base64") from None
    if not all(24 <= len(secret) <= 64 for secret in found):
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
    return found


def _origins(value: str) -> tuple[str, ...]:
    """Read the origins of other sites, with commas or blanks between."""
    found = tuple(value.replace(",", " ").split())
    for origin in found:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(f"{origin} is no origin such as https://example.com")
    return found


def _hosts(value: str) -> frozenset[str]:
    """Read names of hosts, with commas or blanks between."""
    found = value.lower().replace(",", " ").split()
    for host in found:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host} is no name such as stems.example.com")
    return frozenset(found)


def _words(value: str) -> tuple[str, ...]:
    """Read secrets with blanks between."""
    if not all(len(word) >= 16 for word in value.split()):
        raise ValueError("must have 16 characters or more")
    return tuple(value.split())


def _redis_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("not a redis:// address")
    database = "" if parts.scheme == "unix" else parts.path.strip("/")
    if dict(parse_qsl(parts.query)).get("db", database) not in {"", "0"}:
        raise ValueError("names another database than 0, which is the one that MinIO writes into")
    return value


def _number(minimum: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not minimum <= number < float("inf"):
            raise ValueError(f"must be a number from {minimum:g}")
        return number

    return parse


def _count(minimum: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if value.strip().lstrip("+-").isdecimal() else minimum - 1
        if number < minimum:
            raise ValueError(f"must be a whole number from {minimum}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return parse


def _setting(env: str, parse: Callable[[str], Any], default: str, *, secret: bool = False, empty: Any = "") -> Any:
    metadata = {"env": env, "parse": parse, "default": default, "empty": empty, "secret": secret}
    # A password may stand in an address.
    return field(metadata=metadata, repr=not secret and parse not in {_url, _urls})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. Build it with `from_env`, in entry points only."""

    # every part
    s3_endpoint: str = _setting("STEMS_S3_ENDPOINT", _url, "http://127.0.0.1:9000")
    s3_public_endpoint: str = _setting("STEMS_S3_PUBLIC_ENDPOINT", _url, "")
    s3_access_key: str = _setting("STEMS_S3_ACCESS_KEY", _text, "")
    s3_secret_key: str = _setting("STEMS_S3_SECRET_KEY", _text, "", secret=True)
    s3_region: str = _setting("STEMS_S3_REGION", _text, "us-east-1")
    redis_url: str = _setting("STEMS_REDIS_URL", _redis_url, "redis://127.0.0.1:6379/0", secret=True)
    log_level: str = _setting("STEMS_LOG_LEVEL", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
    log_format: str = _setting("STEMS_LOG_FORMAT", _one_of("json", "text"), "json")
    log_tail: int = _setting("STEMS_LOG_TAIL", _count(0), "1000")
    metrics_port: int = _setting("STEMS_METRICS_PORT", _count(0), "0")
    otlp_endpoint: str = _setting("OTEL_EXPORTER_OTLP_ENDPOINT", _url, "")

    # relay
    sink: tuple[str, ...] = _setting("K_SINK", _urls, "", empty=())
    reply_sink: str = _setting("STEMS_REPLY_SINK", _url, "")
    callback: str = _setting("STEMS_CALLBACK", address.callback_url, "", secret=True)
    callback_secret: Secrets = _setting("STEMS_CALLBACK_SECRET", _webhook_secrets, "", secret=True, empty=())
    callback_song_secret: Secrets = _setting("STEMS_CALLBACK_SONG_SECRET", _webhook_secrets, "", secret=True, empty=())
    callback_networks: address.Networks = _setting("STEMS_CALLBACK_NETWORKS", address.networks, "", empty=())
    callback_attempts: int = _setting("STEMS_CALLBACK_ATTEMPTS", _count(1), "20")
    callback_timeout_s: float = _setting("STEMS_CALLBACK_TIMEOUT_S", _number(0.1), "10")
    max_in_flight: int = _setting("STEMS_MAX_IN_FLIGHT", _count(1), "1")
    divide: str = _setting("STEMS_DIVIDE", _one_of(THROUGHPUT, LATENCY), THROUGHPUT)
    max_attempts: int = _setting("STEMS_MAX_ATTEMPTS", _count(1), "5")
    delivery_timeout_s: float = _setting("STEMS_DELIVERY_TIMEOUT_S", _number(1), "600")
    backoff_s: float = _setting("STEMS_BACKOFF_S", _number(0.01), "1")
    backoff_max_s: float = _setting("STEMS_BACKOFF_MAX_S", _number(0.01), "60")
    sweep_s: float = _setting("STEMS_SWEEP_S", _number(1), "300")
    heartbeat_s: float = _setting("STEMS_HEARTBEAT_S", _number(0.1), "5")
    grace_s: float = _setting("STEMS_GRACE_S", _number(0), "10")

    # relay and separate
    sink_secret: tuple[str, ...] = _setting("STEMS_SINK_SECRET", _words, "", secret=True, empty=())

    # tracks
    apiv1_max_mb: int = _setting("STEMS_APIV1_MAX_MB", _count(1), "64")
    tokens_file: str = _setting("STEMS_TOKENS_FILE", _text, "")
    rate_per_s: float = _setting("STEMS_RATE_PER_S", _number(0), "200")
    hosts: frozenset[str] = _setting("STEMS_HOSTS", _hosts, "", empty=frozenset())
    proxies: int = _setting("STEMS_PROXIES", _count(0), "0")
    cors_origins: tuple[str, ...] = _setting("STEMS_CORS_ORIGINS", _origins, "", empty=())

    # separate
    model: str = _setting("STEMS_MODEL", _text, "demo")
    model_dir: str = _setting("STEMS_MODEL_DIR", _text, "models")
    precision: str = _setting("STEMS_PRECISION", _one_of(*PRECISIONS), EXACT)
    device: str = _setting("STEMS_DEVICE", _one_of(*DEVICES), AUTO)
    lease_s: float = _setting("STEMS_LEASE_S", _number(1), "20")
    max_duration_s: float = _setting("STEMS_MAX_DURATION_S", _number(0), "43200")
    part_s: float = _setting("STEMS_PART_S", _number(0), "300")
    max_bytes: int = _setting("STEMS_MAX_BYTES", _count(0), str(5 << 30))

    # tracks
    max_upload_bytes: int = _setting("STEMS_MAX_UPLOAD_BYTES", _count(1), str(5 << 30))

    # command line
    tracks_url: str = _setting("STEMS_URL", _url, "http://127.0.0.1:8080")
    token: str = _setting("STEMS_TOKEN", _text, "", secret=True)

    # minio-config
    minio_root_user: str = _setting("MINIO_ROOT_USER", _text, "")
    minio_root_password: str = _setting("MINIO_ROOT_PASSWORD", _text, "", secret=True)
    separate_secret_key: str = _setting("STEMS_SEPARATE_SECRET_KEY", _text, "", secret=True)
    tracks_secret_key: str = _setting("STEMS_TRACKS_SECRET_KEY", _text, "", secret=True)
    relay_secret_key: str = _setting("STEMS_RELAY_SECRET_KEY", _text, "", secret=True)
    uploader_secret_key: str = _setting("STEMS_UPLOADER_SECRET_KEY", _text, "", secret=True)
    notify_targets: str = _setting("STEMS_NOTIFY_TARGETS", _text, "FAST,DURABLE")
    keep_uploads_days: int = _setting("STEMS_KEEP_UPLOADS_DAYS", _count(0), "0")
    keep_output_days: int = _setting("STEMS_KEEP_OUTPUT_DAYS", _count(0), "0")
    keep_parts_days: int = _setting("STEMS_KEEP_PARTS_DAYS", _count(1), "7")
    abort_multipart_days: int = _setting("STEMS_ABORT_MULTIPART_DAYS", _count(1), "1")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings from `environ` (default: the process environment).

        An empty variable counts as unset. Raises ConfigError that names the variable and its value.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            env, parse, default = (setting.metadata[name] for name in ("env", "parse", "default"))
            text = environ.get(env, "") or default
            try:
                values[setting.name] = parse(text) if text else setting.metadata["empty"]
            except ValueError as error:
                shown = "(secret)" if setting.metadata["secret"] or "@" in text else repr(text)
                raise ConfigError(f"{env}={shown}: {error}") from None
        return cls(**values)

    def require(self, *names: str) -> "Settings":
        """Return self when every named setting has a value; else raise ConfigError naming the missing ones."""
        missing = [
            setting.metadata["env"]
            for setting in fields(self)
            if setting.name in names and not getattr(self, setting.name)
        ]
        if missing:
            raise ConfigError(f"not set: {', '.join(missing)}")
        return self


def environment(env_file: Path | None) -> dict[str, str]:
    """Return the process environment on top of the variables of `env_file`, which are taken as they are written.

    Raises ConfigError for a file that cannot be read.
    """
    try:
        given = dotenv_values(env_file, interpolate=False) if env_file else {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the env file {env_file} cannot be read: {error}") from error
    return {name: value for name, value in given.items() if value is not None} | dict(os.environ)


def table() -> list[tuple[str, str]]:
    """Return (environment variable, default) of every setting, in the order of `Settings`."""
    return [(setting.metadata["env"], setting.metadata["default"]) for setting in fields(Settings)]
