"""The images in containers, as strictly as a cluster runs them."""

import contextlib
import functools
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

from stems_local.stack import Stack
from tests.manifests import VERSION
from tests.programs import skip_or_fail

PARTS = ("relay", "tracks", "separate")
# Nobody's: the images must not ask who runs them.
UID = 54321
STRICT = (
    f"--user={UID}:{UID}",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=host",
)


@functools.cache
def engine() -> str:
    """Return docker or podman, whichever works; skip the calling test (fail it in CI) where neither does."""
    for name in ("docker", "podman"):
        with contextlib.suppress(OSError):
            if subprocess.run([name, "info"], capture_output=True).returncode == 0:
                return name
    skip_or_fail("neither docker nor podman works here")


def strict() -> list[str]:
    """Return the options of `run`."""
    # Podman's read-only containers have more folders that can be written to.
    return [*STRICT, *(["--read-only-tmpfs=false"] if engine() == "podman" else [])]


def image(part: str) -> str:
    """Return the name of an image that is there; skip the calling test (fail it in CI) where it is not."""
    prefix = os.environ.get("PREFIX")
    name = f"{prefix}/stems-{part}:{VERSION}" if prefix else f"stems-{part}:{VERSION}"
    if subprocess.run([engine(), "image", "inspect", name], capture_output=True).returncode:
        skip_or_fail(f"there is no image {name}: run `make images`")
    return name


def inspect(part: str) -> dict[str, Any]:
    """Return what the engine knows of an image."""
    done = subprocess.run([engine(), "image", "inspect", image(part)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def run(part: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """Run a command in a container of its own; return what it prints."""
    arguments = [engine(), "run", "--rm", *strict(), *options, image(part), *command]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def running(part: str, **environ: str) -> Iterator[str]:
    """Run an image as it starts by itself until the end of the block; yield the container's name."""
    name = f"stems-test-{part}-{os.getpid()}"
    settings = [f"--env={key}={value}" for key, value in environ.items()]
    command = [engine(), "run", "--detach", "--name", name, *strict(), *settings, image(part)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield name
    finally:
        remove(name)


def remove(name: str) -> None:
    """Remove a container, running or not, if it is there."""
    subprocess.run([engine(), "rm", "--force", "--volumes", name], capture_output=True)


class ContainerStack(Stack):
    """The local pipeline with containers of the images in place of the relay and the functions."""

    def name(self, part: str) -> str:
        """Return the name of a part's container."""
        return f"stems-test-{part}-{self.ports['tracks']}"

    def command(self, part: str) -> list[str]:
        """Return what runs a part's container."""
        # By name alone: secrets do not stand in the command. The folder of the models is the image's own.
        names = [name for name in self.environ(part) if name != "STEMS_MODEL_DIR"]
        settings = [f"--env={name}" for name in names]
        settings += [f"--env=PORT={self.ports[part]}"] if part != "relay" else []
        return [engine(), "run", "--rm", "--name", self.name(part), *strict(), *settings, image(part)]

    def stop(self) -> None:
        """Stop everything, containers that outlived their command among it."""
        super().stop()
        for part in PARTS:
            remove(self.name(part))
