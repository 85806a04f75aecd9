"""`stems relay` and `stems serve`: the processes of the service, in the foreground."""

import importlib.util
import os
import sys
from pathlib import Path

import click

import stems
from stems.cli import shell

# What each function needs beside its extra's small parts, and the port that is its own on one machine.
_PACKAGES = {"separate": ("gunicorn", "flask", "torch", "demucs"), "tracks": ("gunicorn", "flask", "minio")}
_PORTS = {"separate": 8081, "tracks": 8080}


@click.command()
def relay() -> None:
    """Run the relay between Redis and the function `separate` (K_SINK).

    \b
    Example:
      K_SINK=http://127.0.0.1:8081 stems relay
    """
    settings = shell.settings()
    with shell.needs("aiohttp, httpx2, minio and redis", "relay"):
        from stems_relay.relay import run
    run(settings)


@click.command()
@click.argument("function", type=click.Choice(sorted(_PACKAGES)))
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Listen on this port. [default: PORT, else 8080 (tracks) or 8081]",
)
@click.option(
    "--host", metavar="ADDRESS", help="Listen on this address. [default: 127.0.0.1; 0.0.0.0 where PORT is set]"
)
def serve(function: str, port: int | None, host: str | None) -> None:
    """Serve one of the two functions with gunicorn.

    \b
    Example:
      stems serve tracks
      stems serve separate --port 9001
    """
    environment = shell.values()
    with shell.needs(f"{', '.join(_PACKAGES[function][:-1])} and {_PACKAGES[function][-1]}", function):
        for package in _PACKAGES[function]:
            if importlib.util.find_spec(package) is None:  # importing torch here would only be repeated
                raise ModuleNotFoundError(package, name=package)
    shell.settings()  # a wrong setting is told of here, as a sentence
    config = Path(stems.__file__).parent / function / "gunicorn.conf.py"
    command = [sys.executable, "-m", "gunicorn", "--config", str(config)]
    if port or host or not environment.get("PORT"):
        number = port or environment.get("PORT") or _PORTS[function]
        command += ["--bind", f"{host or '127.0.0.1'}:{number}"]
    command.append(f"stems.{function}.app:create_app()")
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)
