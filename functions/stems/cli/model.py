"""`stems model`: the models in the model folder, and published ones into it."""

from pathlib import Path

import click

from stems.cli import progress, shell, terminal
from stems.separate import weights


@click.group(cls=shell.Shell)
def model() -> None:
    """See which models there are, and fetch published ones.

    \b
    Example:
      stems model list
      stems model fetch htdemucs
    """


@model.command("list")
def list_() -> None:
    """List the models; a star marks the one in use.

    They lie in the folder STEMS_MODEL_DIR; STEMS_MODEL names the one in use.

    \b
    Example:
      stems model list
    """
    settings = shell.settings()
    with progress.busy("looking …"), shell.needs("torch and demucs", "separate"):
        from stems.separate import kernels
        from stems.separate import model as models
    folder = Path(settings.model_dir)
    there = {
        **dict.fromkeys(models.available(folder), str(folder)),
        **{name: f"built in; {note}" for name, note in models.NOTES.items()},
    }
    absent = {name: f"published: stems model fetch {name}" for name in weights.PUBLISHED if name not in there}
    rows = [("*" if name == settings.model else "", name, where) for name, where in (there | absent).items()]
    terminal.table(("", "MODEL", "WHERE"), rows, flexible=2)
    click.secho(f"Hybrid Transformer Demucs is computed by {kernels.described()}", dim=True)


@model.command()
@click.argument("name")
@click.option("--from", "prefix", metavar="URL-PREFIX", help="Take the files from a mirror: URL-PREFIX/<file>.")
def fetch(name: str, prefix: str | None) -> None:
    """Download a published model and check its SHA-256.

    It is put into the folder STEMS_MODEL_DIR.

    \b
    Example:
      stems model fetch htdemucs
      stems model fetch htdemucs --from https://mirror.example/demucs
    """
    folder = Path(shell.settings().model_dir)
    for each in weights.published(name):
        with progress.bar(each.file) as on_progress:
            new = weights.fetch(each, folder, prefix, on_progress)
        path = folder / each.file
        click.echo(f"{path}  {terminal.size(path.stat().st_size)}, {'checked' if new else 'already there'}")
    click.echo(f"{weights.describe(name, folder)}")
    click.secho(f"Licence: {weights.LICENCE}", dim=True)
    click.echo(f"Use it: stems separate --model {name} song.mp3, or STEMS_MODEL={name} for all songs")
