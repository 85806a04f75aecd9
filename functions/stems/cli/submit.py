"""`stems submit`: songs into the bucket `queue`, and what becomes of them."""

import mimetypes
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stems import naming
from stems.cli import progress, shell, terminal
from stems.config import Settings
from stems.errors import PermanentError, StemsError, TransientError

if TYPE_CHECKING:
    from stems.storage import Storage

_POLL_S = 1.0
_PATIENCE_S = 60.0  # so long MinIO may be away while we wait for a song
_ENDS = frozenset({"done", "failed", "removed", "cancelled", "dropped"})


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@shell.song_options
@click.option("--callback", metavar="URL", help="Have this URL called when a song ends, as stems or as a dead letter.")
@click.option("--prefix", default="", metavar="FOLDER", help="Put the songs into this folder of the bucket.")
@click.option("--wait", is_flag=True, help="Wait until the songs are separated; exit code 1 if one of them fails.")
def submit(files: tuple[Path, ...], prefix: str, wait: bool, **chosen: str | None) -> None:
    """Put songs into the bucket `queue`: the service separates them.

    \b
    Example:
      stems submit song.mp3
      stems submit --wait --stems vocals --format flac --prefix 2026/05 *.mp3
    """
    settings = shell.settings()
    metadata, _ = shell.asked(chosen)
    with shell.needs("minio and httpx2", "client"):
        from stems.storage import Storage

        storage = Storage(settings)
    keys = _keys(files, prefix)
    sent: dict[str, str] = {}
    for path, key in keys.items():
        try:
            sent[key] = _put(storage, key, path, metadata)
        except (StemsError, OSError) as error:
            terminal.complain(f"{path}: {error}")
    failed = len(keys) - len(sent)
    if wait and sent:
        failed += _follow(storage, sent, _progress_of(settings))
    sys.exit(1 if failed else 0)


def _keys(files: tuple[Path, ...], prefix: str) -> dict[Path, str]:
    """Name the objects; two files of one name would overwrite each other before the first was separated."""
    keys: dict[Path, str] = {}
    for path in dict.fromkeys(files):
        key = "/".join([*filter(None, prefix.split("/")), path.name])
        if key in keys.values():
            raise click.UsageError(
                f"two of the files would be {naming.QUEUE_BUCKET}/{key}: use --prefix for one of them"
            )
        keys[path] = key
    return keys


def _put(storage: "Storage", key: str, path: Path, metadata: Mapping[str, str]) -> str:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    with progress.bar(path.name) as on_progress:
        etag = storage.put_upload(key, path, metadata, content_type, on_progress)
    click.echo(terminal.plain(f"{naming.QUEUE_BUCKET}/{key}") + f"  {terminal.size(path.stat().st_size)}")
    return etag


def _follow(storage: "Storage", sent: Mapping[str, str], progress_of: Callable[[str, str], float | None]) -> int:
    """Wait until all songs have an end, telling of each; return how many have a bad one."""
    failed, waiting, began = 0, dict(sent), time.monotonic()
    answered = began
    while waiting:
        key, etag = next(iter(waiting.items()))
        with progress.bar(naming.song_name(key)) as on_progress:
            while key in waiting:
                ended = {}
                try:
                    ended = {k: tags for k, e in waiting.items() if (tags := _end(storage, k, e))}
                    answered = time.monotonic()
                except TransientError:
                    if time.monotonic() - answered > _PATIENCE_S:
                        raise
                if ended:
                    break
                on_progress(progress_of(key, etag) or 0)
                time.sleep(_POLL_S)
        for k, tags in ended.items():
            del waiting[k]
            failed += not _tell(k, tags, time.monotonic() - began)
    return failed


def _end(storage: "Storage", key: str, etag: str) -> Mapping[str, str] | None:
    """Return the tags of an upload that speak of its end, None while it has none."""
    try:
        tags = storage.upload_tags(key)
    except PermanentError as error:
        return {naming.TAG_STATE: "removed", naming.TAG_ERROR: str(error)}
    # Tags can be about older bytes of the same name.
    return tags if tags.get(naming.TAG_STATE) in _ENDS and tags.get(naming.TAG_ETAG) == etag else None


def _tell(key: str, tags: Mapping[str, str], seconds: float) -> bool:
    state = tags[naming.TAG_STATE]
    if state != "done":
        terminal.complain(f"{naming.QUEUE_BUCKET}/{key}: {state}: {tags.get(naming.TAG_ERROR) or 'no reason is known'}")
        return False
    songhash = tags.get(naming.TAG_SONGHASH, "")
    click.echo(
        terminal.plain(f"{naming.QUEUE_BUCKET}/{key} -> {songhash[:12]}") + f"  done in {terminal.took(seconds)}"
    )
    return True


def _progress_of(settings: Settings) -> Callable[[str, str], float | None]:
    """Return a function that asks the REST function how far a song is, until that does not answer."""
    from stems.cli.rest import Rest

    opened = Rest(settings.tracks_url, settings.token)
    click.get_current_context().call_on_close(opened.close)
    rest: Rest | None = opened

    def progress_of(key: str, etag: str) -> float | None:
        nonlocal rest
        job = naming.job_id(naming.QUEUE_BUCKET, key, etag)
        try:
            running = rest.queue()["running"]["jobs"] if rest else []
        except (StemsError, KeyError):
            rest = None
        else:
            return next((float(each["progress"]) for each in running if each["id"] == job), None)
        return None

    return progress_of
