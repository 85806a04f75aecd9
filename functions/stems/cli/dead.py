"""`stems dead`: songs that were given up, and what to do with them."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import click

from stems import naming, printable
from stems.cli import shell, terminal
from stems.errors import ObjectGone

if TYPE_CHECKING:
    from stems.jobs import Job, Jobs

_ID_LENGTH = 8  # enough to be told apart; any unique beginning of an id is understood
_JSON = ("{", "[")
_ABOUT = {"replies": "reply to ", "callbacks": "callback about "}


@click.group(cls=shell.Shell)
def dead() -> None:
    """Look at songs that were given up, retry or drop them.

    \b
    Example:
      stems dead list
      stems dead retry 3f9a
    """


def _jobs() -> "Jobs":
    settings = shell.settings()
    with shell.needs("redis", "client"):
        from stems import jobs
    return jobs.Jobs(jobs.connect(settings))


@dead.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the dead letters, newest first, with their reasons.

    \b
    Example:
      stems dead list
    """
    found = _jobs().failed()
    if as_json:
        click.echo(printable.as_json([_data(job) for job in found], indent=2))
    elif not found:
        click.echo("no dead letters", err=True)
    else:
        rows = [(job.id[:_ID_LENGTH], _called(job), str(job.attempts), _when(job.updated_ms)) for job in found]
        reasons = [job.error or "no reason is known" for job in found]
        terminal.table(("ID", "SONG", "TRIES", "WHEN"), rows, flexible=1, below=reasons)


@dead.command()
@click.argument("id_", metavar="ID")
def show(id_: str) -> None:
    """Print everything that is stored of a dead letter.

    ID is any unique beginning of its id.

    \b
    Example:
      stems dead show 3f9a
    """
    job, stored = _jobs().dead_letter(id_)
    long_last = sorted(stored.items(), key=lambda item: (item[1][:1] in _JSON, item[0]))
    rows = {"id": job.id, **dict(long_last)}
    label = max(map(len, rows))
    for name, value in rows.items():
        if name.endswith("_ms") and value.isdecimal():
            value = datetime.fromtimestamp(int(value) / 1000).astimezone().isoformat(" ", "seconds")
        with suppress(ValueError):  # what only looks like JSON is shown as it is
            value = json.dumps(json.loads(value), indent=2, ensure_ascii=False) if value[:1] in _JSON else value
        first, *more = value.split("\n")
        click.echo(click.style(f"{name:<{label}}  ", fg="cyan") + terminal.plain(first))
        for line in more:
            click.echo(" " * (label + 2) + terminal.plain(line))


@dead.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="Retry all dead letters.")
def retry(ids: tuple[str, ...], everything: bool) -> None:
    """Put dead letters back in line, with their attempts forgotten.

    \b
    Example:
      stems dead retry 3f9a
      stems dead retry --all
    """
    _check(ids, everything)
    jobs = _jobs()
    _each(jobs, ids, everything, lambda job: jobs.retry(job.id), "back in line")


@dead.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="Drop all dead letters.")
def drop(ids: tuple[str, ...], everything: bool) -> None:
    """Forget dead letters; their uploads stay, tagged `dropped`.

    \b
    Example:
      stems dead drop 3f9a
      stems dead drop --all
    """
    _check(ids, everything)
    with shell.needs("minio", "client"):
        from stems.contract import Upload
        from stems.storage import Storage
    jobs, storage = _jobs(), Storage(shell.settings())

    def forget(job: "Job") -> bool:
        # The tag first: a sweep that finds `failed`, or nothing, brings the letter back.
        with suppress(ObjectGone):
            if (
                job.key
                and job.kind == naming.SONGS
                and storage.upload_tags(job.key).get(naming.TAG_ETAG, job.etag) == job.etag
            ):
                storage.tag(Upload(job.bucket, job.key, job.etag, job.uploaded_ms, {}), "dropped")
        return jobs.drop(job.id)

    _each(jobs, ids, everything, forget, "dropped")


def _check(ids: tuple[str, ...], everything: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("name dead letters, or use --all")


def _each(jobs: "Jobs", ids: tuple[str, ...], everything: bool, act: Callable[["Job"], bool], done: str) -> None:
    """Act on the letters named. All ids are looked up first: a wrong one changes nothing."""
    letters = jobs.failed() if everything else [jobs.dead_letter(prefix)[0] for prefix in ids]
    count = 0
    for job in dict.fromkeys(letters):
        if act(job):  # somebody else may have been quicker
            count += 1
            click.echo(f"{job.id[:_ID_LENGTH]}  {done}  {terminal.plain(_called(job))}")
    if not count:
        click.echo("no dead letters", err=True)


def _called(job: "Job") -> str:
    return _ABOUT.get(job.kind, "") + (job.key or job.name)


def _when(milliseconds: int) -> str:
    return terminal.ago(milliseconds / 1000) if milliseconds else ""


def _data(job: "Job") -> dict[str, object]:
    return {name: getattr(job, name) for name in ("id", "name", *job.__dataclass_fields__)}
