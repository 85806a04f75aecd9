"""The command line `stems`: separate songs here, or put them in the queue and see what became of them.

Each module has the commands of one subject. Only click and the standard library are imported up front: what an extra
brings is imported inside the command that uses it (`shell.needs`).
"""

from pathlib import Path

import click

from stems import __version__
from stems.cli.dead import dead
from stems.cli.get import get
from stems.cli.listing import status, tracks
from stems.cli.model import model
from stems.cli.processes import relay, serve
from stems.cli.separate import separate
from stems.cli.shell import Shell
from stems.cli.submit import submit
from stems.cli.tail import logs
from stems.cli.token import token

LOCAL_ENV_FILE = Path(".stems/env")  # written by the local run


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Read settings (STEMS_…) from this file; the environment wins. [default: .stems/env, if there]",
)
@click.version_option(__version__, prog_name="stems")
@click.pass_context
def main(context: click.Context, env_file: Path | None) -> None:
    """Separate songs into drums, bass, vocals and the rest.

    \b
    Example:
      stems separate song.mp3             on this machine, no server
      stems submit --wait song.mp3        by the service: put in its bucket, follow it
      stems tracks                        what the service has separated
    """
    if env_file is None and LOCAL_ENV_FILE.is_file():
        env_file = LOCAL_ENV_FILE
    context.obj = env_file


for _command in (separate, submit, status, tracks, get, logs, dead, model, token, relay, serve):
    main.add_command(_command)
