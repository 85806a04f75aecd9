"""The pipeline on this machine: MinIO, Redis, relay, separate and tracks under supervisord, on free ports.

supervisord starts again what dies; the queue and the buckets are on disk, so no song is lost by it.
"""

import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stems import naming
from stems.errors import ConfigError, StemsError
from stems_local.ports import free_ports, is_free
from stems_local.programs import Programs

CHECKOUT = Path(__file__).resolve().parents[2]
_PORTS = ("minio", "redis", "tracks")
_USERS = ("separate", "tracks", "relay", "uploader")
# Of events/users.conf.
_REDIS_USERS = ("minio", "relay", "separate", "tracks", "logs", "admin")
# What supervisord starts ends with it, however it ends (Linux): nothing may go on writing that nobody watches.
_SETPRIV = shutil.which("setpriv")
_LEASH = [_SETPRIV, "--pdeathsig", "TERM", "--"] if _SETPRIV else []
_START_S = 60.0
_STOP_S = 30.0


@dataclass
class Stack:
    """One pipeline whose state lives in `root`. `overrides` are settings for all its processes.

    `workers`: so many processes of `separate`, which share the machine's cores.
    """

    root: Path
    programs: Programs
    overrides: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    ports: dict[str, int] = field(init=False)
    keys: dict[str, str] = field(init=False)
    _supervisor: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)  # songs and secrets are the user's own
        # The same ports and keys after a restart: addresses that people noted down go on working.
        known = json.loads(self._identity.read_text()) if self._identity.exists() else {}
        redis_users = (f"redis-{user}" for user in _REDIS_USERS)
        made = {name: secrets.token_hex(16) for name in ("root", "callback", "sink", *_USERS, *redis_users)}
        self.keys = made | known.get("keys", {})
        self.ports = known.get("ports", {})
        self.ports |= free_ports({*_PORTS, *self._separate} - {*self.ports})
        self._save()

    def _save(self) -> None:
        self._identity.touch(mode=0o600)
        self._identity.write_text(json.dumps({"ports": self.ports, "keys": self.keys}))

    @property
    def _separate(self) -> tuple[str, ...]:
        """The names of the workers."""
        return ("separate", *(f"separate-{number}" for number in range(2, self.workers + 1)))

    @property
    def _identity(self) -> Path:
        return self.root / "identity.json"

    @property
    def s3_url(self) -> str:
        """The address of MinIO."""
        return f"http://127.0.0.1:{self.ports['minio']}"

    @property
    def tracks_url(self) -> str:
        """The address of the REST function."""
        return f"http://127.0.0.1:{self.ports['tracks']}"

    def redis_url(self, user: str) -> str:
        """Return the address of Redis with the user of a part, or, for people, of the administrator."""
        user = user if user in _REDIS_USERS else "admin"
        return f"redis://{user}:{self.keys[f'redis-{user}']}@127.0.0.1:{self.ports['redis']}/0"

    def environ(self, user: str) -> dict[str, str]:
        """Return the settings of the part, or the person, `user`."""
        settings = {
            "STEMS_S3_ENDPOINT": self.s3_url,
            "STEMS_S3_ACCESS_KEY": user,
            "STEMS_S3_SECRET_KEY": self.keys[user],
            "STEMS_REDIS_URL": self.redis_url(user),
            "STEMS_URL": self.tracks_url,
            "STEMS_LOG_FORMAT": "text",
            # Where `stems model fetch` puts models, when it is run in the checkout.
            "STEMS_MODEL_DIR": str(CHECKOUT / "models"),
            # A laptop has no platform that cuts a request short, and nobody who waits for a graceful end.
            "STEMS_DELIVERY_TIMEOUT_S": "14400",
            "STEMS_GRACE_S": "1",
            # On a laptop whoever is called is on it, too.
            "STEMS_CALLBACK_NETWORKS": "127.0.0.0/8, ::1/128",
            "STEMS_CALLBACK_SECRET": f"whsec_{self.keys['callback']}",
            "K_SINK": " ".join(f"http://127.0.0.1:{self.ports[name]}/" for name in self._separate),
            "STEMS_MAX_IN_FLIGHT": str(self.workers),
        }
        if user in {"relay", "separate"}:
            settings["STEMS_SINK_SECRET"] = self.keys["sink"]
        if self.workers > 1:
            settings["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // self.workers))
        return {**settings, **self.overrides}

    def command(self, part: str) -> list[str]:
        """Return what starts the relay or a function. Tests of the images start a container instead."""
        stems, function = str(Path(sys.executable).parent / "stems"), part.partition("-")[0]
        return [stems, "relay"] if part == "relay" else [stems, "serve", function, "--port", str(self.ports[part])]

    def running(self) -> bool:
        """Tell whether a supervisord runs on this state, started by whomever."""
        if self._supervisor is not None:
            return self._supervisor.poll() is None
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(_control_socket(self.root))) == 0

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises ConfigError with the log of what does not start."""
        if self.running():
            raise ConfigError(f"a pipeline already runs on {self.root}; stop it first (Ctrl-C, or `make down`)")
        self._check_ports()
        self._write_config()
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.root / "supervisord.conf")]
        # A session of its own: Ctrl-C reaches us alone, and we stop the parts in order.
        with (self.root / "logs" / "supervisord.out").open("wb") as log:
            self._supervisor = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.root, start_new_session=True)
        try:
            self._wait(f"{self.s3_url}/minio/health/live", "minio")
            self.configure_minio()
            self.control("start", "pipeline:*")
            for name in self._separate:
                self._wait(f"http://127.0.0.1:{self.ports[name]}/health/ready", name)
            self._wait(f"{self.tracks_url}/health/ready", "tracks")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, the functions before the stores, and wait for it."""
        if self._supervisor is not None:
            self._supervisor.terminate()
            try:
                self._supervisor.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()  # what it started ends with it
                self._supervisor.wait()
        elif self.running():
            self.control("shutdown")
            deadline = time.monotonic() + _STOP_S
            while self.running():
                if time.monotonic() > deadline:
                    raise StemsError(f"the pipeline on {self.root} does not stop; see {self.root}/logs/supervisord.log")
                time.sleep(0.1)

    def _check_ports(self) -> None:
        """Take other ports where ours are taken by a stranger; refuse where it may be a part of an earlier run."""
        deadline = time.monotonic() + _STOP_S / 3
        while taken := [port for port in self.ports.values() if not is_free(port)]:
            if time.monotonic() > deadline:
                # Two MinIOs or Redises on the same files would destroy them.
                if not _LEASH:
                    raise ConfigError(
                        f"port {taken[0]} is taken, perhaps by what is left of a killed run: end it first"
                    )
                self.ports = free_ports(self.ports)
                self._save()
                return
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
        redis_conf, folder = self.root / "redis.conf", json.dumps(str(self.root / "redis"), ensure_ascii=False)
        redis_conf.touch(mode=0o600)
        redis_conf.write_text(
            f"bind 127.0.0.1\nport {self.ports['redis']}\ndir {folder}\n"
            f'appendonly yes\nmaxmemory-policy noeviction\nsave ""\n'
        )
        conf = self.root / "supervisord.conf"
        conf.touch(mode=0o600)
        conf.write_text("\n".join(self._sections()))

    def _sections(self) -> Iterable[str]:
        ports = self.ports
        # Paths relative to `root`, where supervisord runs: it expands some of them once and some twice.
        yield "[supervisord]\nlogfile=logs/supervisord.log\npidfile=supervisord.pid"
        yield f"[unix_http_server]\nfile={_control_socket(self.root)}\nchmod=0700"
        yield f"[supervisorctl]\nserverurl=unix://{_control_socket(self.root)}"
        yield (
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"
        )
        passwords = {f"REDIS_{user.upper()}_PASSWORD": self.keys[f"redis-{user}"] for user in _REDIS_USERS}
        command = ["sh", str(CHECKOUT / "events" / "redis.sh"), str(self.root / "redis.conf")]
        yield _program("redis", command, {**passwords, "REDIS_SERVER": self.programs.redis}, autostart=True)
        address = f"127.0.0.1:{ports['minio']}"
        command = [self.programs.minio, "server", str(self.root / "minio"), "--quiet", "--address", address]
        yield _program("minio", command, self._minio_environ(), autostart=True)
        parts = (*self._separate, "tracks", "relay")
        yield f"[group:pipeline]\nprograms={','.join(parts)}\npriority=20"
        for name in parts:
            environ = self.environ(name.partition("-")[0])
            yield _program(name, self.command(name), {**environ, "TMPDIR": str(self.root / "tmp")})

    def _minio_environ(self) -> dict[str, str]:
        address = f"127.0.0.1:{self.ports['redis']}"
        target = {"ENABLE": "on", "ADDRESS": address, "KEY": naming.NOTIFICATIONS, "FORMAT": "access"}
        target |= {"USER": "minio", "PASSWORD": self.keys["redis-minio"]}
        return {
            "MINIO_ROOT_USER": "root",
            "MINIO_ROOT_PASSWORD": self.keys["root"],
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_NOTIFY_REDIS_QUEUE_DIR_DURABLE": str(self.root / "minio-queue"),
            **{f"MINIO_NOTIFY_REDIS_{name}_{i}": value for i in ("FAST", "DURABLE") for name, value in target.items()},
        }


def _program(name: str, command: list[str], environ: Mapping[str, str], *, autostart: bool = False) -> str:
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in environ.items())
    return (
        f"[program:{name}]\ncommand={_escaped(shlex.join([*_LEASH, *command]))}\nenvironment={pairs}\n"
        f"autostart={str(autostart).lower()}\nautorestart=true\nstartsecs=0\nstartretries=100\npriority=10\n"
        f"stopwaitsecs=5\nkillasgroup=true\n"
        f"stdout_logfile=logs/{name}.log\nredirect_stderr=true\nstdout_logfile_maxbytes=10MB"
    )


def _escaped(text: str) -> str:
    """Return the text as supervisord's configuration wants it. Raises ConfigError for what that cannot hold."""
    if '"' in text or " #" in text or " ;" in text:
        raise ConfigError(f'{text}: supervisord cannot take a path or a setting with ", " #" or " ;" in it')
    return text.replace("%", "%%")


def _control_socket(root: Path) -> Path:
    """Return the path of supervisord's socket: outside `root`, since such a path has 107 characters at most."""
    return Path("/tmp") / f"stems-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.sock"
