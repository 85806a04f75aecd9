"""The pipeline on this machine: MinIO, Redis, relay, separate and tracks under supervisord, on free ports.

supervisord starts again what dies; the queue and the buckets are on disk, so no song is lost by it.
"""

import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stems.errors import ConfigError
from stems_local.programs import Programs

CHECKOUT = Path(__file__).resolve().parents[2]
_PORTS = ("minio", "redis", "separate", "tracks")
_USERS = ("separate", "tracks", "relay", "uploader")
_START_S = 60.0
_STOP_S = 30.0


@dataclass
class Stack:
    """One pipeline whose state lives in `root`. `overrides` are settings for all its processes."""

    root: Path
    programs: Programs
    overrides: Mapping[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(init=False)
    keys: dict[str, str] = field(init=False)
    _supervisor: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        # The same ports and keys after a restart: addresses that people noted down go on working.
        saved = self.root / "identity.json"
        known = json.loads(saved.read_text()) if saved.exists() else {}
        self.keys = known.get("keys") or {name: secrets.token_hex(16) for name in ("root", "redis", *_USERS)}
        self.ports = known.get("ports") or dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        saved.touch(mode=0o600)
        saved.write_text(json.dumps({"ports": self.ports, "keys": self.keys}))

    @property
    def s3_url(self) -> str:
        """The address of MinIO."""
        return f"http://127.0.0.1:{self.ports['minio']}"

    @property
    def tracks_url(self) -> str:
        """The address of the REST function."""
        return f"http://127.0.0.1:{self.ports['tracks']}"

    @property
    def redis_url(self) -> str:
        """The address of Redis, with its password."""
        return f"redis://:{self.keys['redis']}@127.0.0.1:{self.ports['redis']}/0"

    def environ(self, user: str) -> dict[str, str]:
        """Return the settings of the part, or the person, `user`."""
        settings = {
            "STEMS_S3_ENDPOINT": self.s3_url,
            "STEMS_S3_ACCESS_KEY": user,
            "STEMS_S3_SECRET_KEY": self.keys[user],
            "STEMS_REDIS_URL": self.redis_url,
            "STEMS_URL": self.tracks_url,
            "STEMS_LOG_FORMAT": "text",
            # Where `stems model fetch` puts models, when it is run in the checkout.
            "STEMS_MODEL_DIR": str(CHECKOUT / "models"),
            # A laptop has no platform that cuts a request short, and nobody who waits for a graceful end.
            "STEMS_DELIVERY_TIMEOUT_S": "14400",
            "STEMS_GRACE_S": "1",
            "K_SINK": f"http://127.0.0.1:{self.ports['separate']}/",
        }
        return {**settings, **self.overrides}

    def running(self) -> bool:
        """Tell whether a supervisord runs on this state, started by whomever."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(_control_socket(self.root))) == 0

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises ConfigError with the log of what does not start."""
        if self.running():
            raise ConfigError(f"a pipeline already runs on {self.root}; stop it first (Ctrl-C, or `make down`)")
        for part, port in self.ports.items():
            if not _is_free(port):
                raise ConfigError(
                    f"port {port}, which {part} had before, is taken, perhaps by what is left of a killed run: "
                    f"end that process, or remove {self.root / 'identity.json'} to get other ports"
                )
        self._write_config()
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.root / "supervisord.conf")]
        # A session of its own: Ctrl-C reaches us alone, and we stop the parts in order.
        with (self.root / "logs" / "supervisord.out").open("wb") as log:
            self._supervisor = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait(f"{self.s3_url}/minio/health/live", "minio")
            self.configure_minio()
            self.control("start", "pipeline:*")
            self._wait(f"http://127.0.0.1:{self.ports['separate']}/health/ready", "separate")
            self._wait(f"{self.tracks_url}/health/ready", "tracks")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, the functions before the stores, and wait for it."""
        if self._supervisor is not None:
            self._supervisor.terminate()
            self._supervisor.wait(_STOP_S)
        elif self.running():
            self.control("shutdown")
            deadline = time.monotonic() + _STOP_S
            while self.running() and time.monotonic() < deadline:
                time.sleep(0.1)

    def control(self, *command: str) -> str:
        """Give supervisord a command (supervisorctl's) and return what it says."""
        program = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.root / "supervisord.conf")]
        return subprocess.run([*program, *command], capture_output=True, text=True, check=False).stdout

    def pid(self, part: str) -> int:
        """Return the process id of a part: minio, redis, or pipeline:relay, pipeline:separate, pipeline:tracks."""
        return int(self.control("pid", part).strip() or 0)

    def configure_minio(self) -> None:
        """Apply minio-config to the running MinIO."""
        environ = {
            **self.environ("uploader"),
            "MINIO_ROOT_USER": "root",
            "MINIO_ROOT_PASSWORD": self.keys["root"],
            **{f"STEMS_{user.upper()}_SECRET_KEY": self.keys[user] for user in _USERS},
        }
        done = subprocess.run(
            [sys.executable, str(CHECKOUT / "minio-config" / "apply.py")],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ConfigError(f"minio-config was not applied: {(done.stderr or done.stdout).strip()}")

    def _wait(self, url: str, part: str) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except (OSError, urllib.error.URLError) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise ConfigError(f"{part} cannot work: {json.load(error)['detail']}") from error
                if time.monotonic() > deadline or self._supervisor is None or self._supervisor.poll() is not None:
                    log = self.root / "logs" / f"{part}.log"
                    tail = log.read_text(errors="replace")[-800:] if log.exists() else ""
                    raise ConfigError(f"{part} does not start ({error}); {log} ends with:\n{tail}") from error
                time.sleep(0.05)

    def _write_config(self) -> None:
        for name in ("logs", "minio", "minio-queue", "redis", "tmp"):
            (self.root / name).mkdir(exist_ok=True)
        redis_conf = self.root / "redis.conf"
        redis_conf.touch(mode=0o600)
        redis_conf.write_text(
            f"bind 127.0.0.1\nport {self.ports['redis']}\ndir {self.root / 'redis'}\n"
            f'requirepass {self.keys["redis"]}\nappendonly yes\nmaxmemory-policy noeviction\nsave ""\n'
        )
        conf = self.root / "supervisord.conf"
        conf.touch(mode=0o600)
        conf.write_text("\n".join(self._sections()))

    def _sections(self) -> Iterable[str]:
        root, ports = self.root, self.ports
        yield f"[supervisord]\nlogfile={root}/logs/supervisord.log\npidfile={root}/supervisord.pid\ndirectory={root}"
        yield f"[unix_http_server]\nfile={_control_socket(root)}\nchmod=0700"
        yield f"[supervisorctl]\nserverurl=unix://{_control_socket(root)}"
        yield (
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"
        )
        redis_target = {"ENABLE": "on", "ADDRESS": f"127.0.0.1:{ports['redis']}", "PASSWORD": self.keys["redis"]}
        redis_target |= {"KEY": "stems:notifications", "FORMAT": "access"}
        minio = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": self.keys["root"]}
        minio |= {
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE": f"{root}/minio-queue",
        }
        minio |= {f"MINIO_NOTIFY_REDIS_{name}_{i}": v for i in ("FAST", "DURABLE") for name, v in redis_target.items()}
        yield _program("redis", f"{self.programs.redis} {root}/redis.conf", {}, autostart=True)
        yield _program(
            "minio",
            f"{self.programs.minio} server {root}/minio --quiet --address 127.0.0.1:{ports['minio']}",
            minio,
            autostart=True,
        )
        yield "[group:pipeline]\nprograms=separate,tracks,relay\npriority=20"
        stems = Path(sys.executable).parent / "stems"
        for name in ("separate", "tracks"):
            environ = {**self.environ(name), "TMPDIR": f"{root}/tmp"}
            yield _program(name, f"{stems} serve {name} --port {ports[name]}", environ)
        yield _program("relay", f"{stems} relay", self.environ("relay"))


def _program(name: str, command: str, environ: Mapping[str, str], *, autostart: bool = False) -> str:
    # supervisord expands % and splits at commas outside quotes.
    pairs = ",".join(f'{key}="{value.replace("%", "%%")}"' for key, value in environ.items())
    return (
        f"[program:{name}]\ncommand={command}\nenvironment={pairs}\nautostart={str(autostart).lower()}\n"
        f"autorestart=true\nstartsecs=0\nstartretries=100\npriority=10\nstopwaitsecs=5\nkillasgroup=true\n"
        f"stdout_logfile=%(here)s/logs/{name}.log\nredirect_stderr=true\nstdout_logfile_maxbytes=10MB"
    )


def _control_socket(root: Path) -> Path:
    """Return the path of supervisord's socket: outside `root`, since such a path has 107 characters at most."""
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"stems-{digest}.sock"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return port != 0


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
