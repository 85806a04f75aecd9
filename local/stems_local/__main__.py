"""`python -m stems_local setup|demo|up|down`: what the Makefile calls."""

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import click

from stems.errors import StemsError
from stems_local import demo
from stems_local.programs import Programs, search_path
from stems_local.stack import CHECKOUT, Stack

STATE = CHECKOUT / ".stems"
BIN = STATE / "bin"


def say(line: str = "") -> None:
    """Print a line at once, also into a pipe."""
    click.echo(line)


@click.group()
def main() -> None:
    """The whole pipeline on this machine."""


@main.command()
def setup() -> None:
    """Get the programs that are missing."""
    Programs.ready(BIN, lambda line: say(f"  {line}"))


@main.command("demo")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=CHECKOUT / "stems-out", help="Where the stems go."
)
@click.argument("song", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
def demo_command(song: Path | None, out: Path) -> None:
    """Separate one song through the whole pipeline, and stop it."""
    programs = Programs.ready(BIN, lambda line: say(f"  {line}"))
    state = STATE / "demo"
    Stack(state, programs).stop()
    # A demo shows the whole way: nothing may be there already.
    shutil.rmtree(state, ignore_errors=True)
    stack = Stack(state, programs, overrides=_own_settings())
    started = time.monotonic()
    say("Starting MinIO, Redis, relay, separate and tracks ...")
    try:
        stack.start()
        say(f"  ready after {time.monotonic() - started:.1f} s")
        demo.play(stack, song or CHECKOUT / "tests" / "data" / "song.mp3", out, say)
    finally:
        stack.stop()
    say("\nStopped what was started. `make up` keeps it running for your own songs.")


@main.command()
def up() -> None:
    """Run the pipeline in the foreground until Ctrl-C."""
    programs = Programs.ready(BIN, lambda line: say(f"  {line}"))
    stack = Stack(STATE / "state", programs, overrides=_own_settings())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say("Starting MinIO, Redis, relay, separate and tracks ...")
    stack.start()
    env_file = STATE / "env"
    write_env(stack, env_file)
    say(_welcome(stack, env_file))
    try:
        demo.follow_log(stack, stop)
    finally:
        env_file.unlink(missing_ok=True)
        say("\nStopping; what is in the queue and in the buckets stays ...")
        stack.stop()


@main.command()
def down() -> None:
    """Stop a pipeline that another terminal started."""
    for name in ("state", "demo"):
        if (STATE / name).exists():
            Stack(STATE / name, Programs.ready(BIN, say)).stop()


def write_env(stack: Stack, path: Path) -> None:
    """Write what a person's shell, and `stems`, needs to talk to the pipeline."""
    user, key = "uploader", stack.keys["uploader"]
    values = {
        **stack.environ(user),
        "MC_HOST_stems": stack.s3_url.replace("://", f"://{user}:{key}@"),
        "AWS_ACCESS_KEY_ID": user,
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": stack.s3_url,
    }
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines.append(f'export PATH={shlex.quote(str(BIN))}:{shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    path.write_text("\n".join(lines) + "\n")


def _welcome(stack: Stack, env_file: Path) -> str:
    try:
        shown = env_file.relative_to(Path.cwd())
    except ValueError:
        shown = env_file
    return f"""
The pipeline runs.
  S3 (MinIO)  {stack.s3_url}   buckets: queue (put songs here), output (stems come out)
  REST        {stack.tracks_url}
  state       {stack.root}

In another terminal, first the credentials and the programs, then any of the three:
  . {shown}
  mc cp song.mp3 stems/queue/
  aws --endpoint-url {stack.s3_url} s3 cp song.mp3 s3://queue/
  curl {stack.tracks_url}/v1/tracks

See how it goes: `stems status`, `stems tracks`, `stems logs -f`.   Ctrl-C stops all of it.
"""


def _own_settings() -> dict[str, str]:
    """Return the settings that the caller's environment gives on purpose: a model, a limit, a format of the log."""
    fixed = ("STEMS_S3_", "STEMS_REDIS_", "STEMS_URL")
    own = {k: v for k, v in os.environ.items() if k.startswith("STEMS_") and not k.startswith(fixed)}
    if folder := own.get("STEMS_MODEL_DIR"):
        own["STEMS_MODEL_DIR"] = str(Path(folder).resolve())  # the parts run in another folder
    return own


if __name__ == "__main__":
    os.environ["PATH"] = search_path(BIN)
    try:
        main(standalone_mode=False)
    except StemsError as error:
        sys.exit(f"Error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
