"""`stems get`: the stems of a track, from the REST function into a folder."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stems import naming
from stems.cli import progress, shell, terminal
from stems.cli.listing import connect
from stems.errors import ObjectGone, StorageUnavailable, UnknownTrack

if TYPE_CHECKING:
    from stems.cli.rest import Rest


@click.command()
@click.argument("track", metavar="SONGHASH|NAME")
@shell.output_option
@click.option("-f", "--force", is_flag=True, help="Replace stems that are already there; without it, they are refused.")
def get(track: str, folder: Path, force: bool) -> None:
    """Download the stems of a track.

    It is named as its upload is, as the song is, or by the beginning of its hash.

    \b
    Example:
      stems get song.mp3
      stems get 3f9a12bc -o /tmp
    """
    rest = connect()
    try:
        found = _find(rest, _songhash_of_upload(track) or track)
    except UnknownTrack:  # the result has expired, or the tag is older than the index
        found = _find(rest, track)
    goal = target(folder, found)
    names = {stem["url"]: f"{stem['stem']}.{stem['format']}" for stem in found["stems"]}
    if not force:
        shell.refuse_existing(goal, names.values())
    goal.mkdir(parents=True, exist_ok=True)
    for stem in found["stems"]:
        _fetch(rest, stem, goal / names[stem["url"]])


def target(folder: Path, track: Mapping[str, Any]) -> Path:
    """Return where to write a track: whoever uploaded it chose its name, and thereby no other place than `folder`."""
    name = Path(terminal.plain(naming.song_name(track["name"]))).stem.strip(". ")
    return folder / (name or track["songhash"][:12])


def _songhash_of_upload(key: str) -> str | None:
    """Return what an upload's tags say is its song: of several names for the same bytes the list shows one alone."""
    settings = shell.settings()
    if not key or naming.is_songhash(key) or not settings.s3_access_key:
        return None
    with shell.needs("minio", "client"):
        from stems.storage import Storage
    with suppress(ObjectGone, StorageUnavailable):  # no upload, or none that we may see: the list has the answer
        tags = Storage(settings).upload_tags(key)
        return tags.get(naming.TAG_SONGHASH) if tags.get(naming.TAG_STATE) == "done" else None
    return None


def _find(rest: "Rest", wanted: str) -> dict[str, Any]:
    """Return the track that `wanted` means. Raises UnknownTrack unless it is exactly one."""
    if naming.is_songhash(wanted):
        return rest.track(wanted)
    tracks = list(rest.tracks(None))
    found = [each for each in tracks if wanted in (each["name"], Path(each["name"]).stem)] or [
        each for each in tracks if each["songhash"].startswith(wanted.lower())
    ]
    if not found:
        raise UnknownTrack(f"no track has the name {wanted!r} or a hash that starts with it")
    if len(found) > 1:
        hashes = ", ".join(each["songhash"][:12] for each in found[:5])
        raise UnknownTrack(f"{len(found)} tracks are meant by {wanted!r}: name one by its hash: {hashes}")
    return found[0]


def _fetch(rest: "Rest", stem: Mapping[str, Any], path: Path) -> None:
    """Write one stem, beside its name first: half of one is never seen under it."""
    with tempfile.TemporaryDirectory(prefix=".stems-", dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        with progress.bar(path.name) as on_progress:
            rest.download(stem["url"], part, on_progress)
        part.replace(path)
    click.echo(terminal.plain(str(path)) + f"  {terminal.size(path.stat().st_size)}")
