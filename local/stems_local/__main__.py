"""`python -m stems_local setup|demo|up|down`: what the Makefile calls."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from stems.errors import StemsError
from stems_local import demo
from stems_local.programs import Programs, search_path
from stems_local.stack import CHECKOUT, Stack

STATE = CHECKOUT / ".stems"
BIN = STATE / "bin"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(line: str = "") -> None:
    """Print a line at once, also into a pipe."""
    click.echo(line)


@click.group()
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), default=STATE, help="Where all state lives.")
@click.pass_context
def main(context: click.Context, state: Path) -> None:
    """The whole pipeline on this machine."""
    context.obj = state.resolve()


@main.command()
def setup() -> None:
    """Get the programs that are missing."""
    _programs()


@main.command("demo")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=CHECKOUT / "stems-out", help="Where the stems go."
)
@click.argument("song", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.pass_obj
def demo_command(state: Path, song: Path | None, out: Path) -> None:
    """Separate one song through the whole pipeline, and stop it."""
    programs, root = _programs(), state / "demo"
    if Stack(root, programs).running():
        raise StemsError("a demo is running already; `make down` stops it")
    # A demo shows the whole way: nothing may be there already.
    shutil.rmtree(root, ignore_errors=True)
    with _running(Stack(root, programs, overrides=_own_settings())) as stack:
        demo.play(stack, song or demo.BUNDLED, out, say)
    say("\nStopped what was started. `make up` keeps it running for your own songs.")


@main.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="So many songs, or parts of a song, at a time.")
@click.pass_obj
def up(state: Path, workers: int) -> None:
    """Run the pipeline in the foreground until Ctrl-C."""
    env_file, stack = state / "env", Stack(state / "state", _programs(), overrides=_own_settings(), workers=workers)
    try:
        with _running(stack):
            try:
                write_env(stack, env_file)
                say(_welcome(stack, env_file))
                demo.follow_log(stack)
            finally:
                env_file.unlink(missing_ok=True)
            raise StemsError("the supervisor of the pipeline has ended, and everything with it; `make up` goes on")
    except KeyboardInterrupt:
        with suppress(OSError):
            say("Stopped. What is in the queue and in the buckets stays.")


@main.command()
@click.pass_obj
def down(state: Path) -> None:
    """Stop what another terminal started."""
    for root in (state / "state", state / "demo"):
        if root.exists() and (stack := Stack(root, _programs())).running():
            say(f"Stopping what runs on {root} ...")
            stack.stop()


def _programs() -> Programs:
    return Programs.ready(BIN, lambda line: say(f"  {line}"))


@contextmanager
def _running(stack: Stack) -> Iterator[Stack]:
    """Start the stack and stop it however the block ends; a signal to end is a KeyboardInterrupt."""

    def interrupt(*_: object) -> None:
        for number in _SIGNALS:  # once is enough: stopping must not be interrupted
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):  # the terminal may be what has gone
            say("\nStopping ...")
        raise KeyboardInterrupt

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, interrupt)
    started = time.monotonic()
    say("Starting MinIO, Redis, relay, separate and tracks ...")
    stack.start()  # where this fails, it stops what it started, and nobody else's
    try:
        say(f"  ready after {time.monotonic() - started:.1f} s")
        yield stack
    finally:
        stack.stop()


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
