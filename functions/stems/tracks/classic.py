"""/apiv1: the API of the lab that this service grew out of, for clients that were written for it.

They print whatever is not exactly 200 with a JSON body, so nothing here is a 202 or a 204; a song that is enqueued is
one that is in the bucket. Its `hash` is the SHA-256 of the bytes, by which the tracks are found later.
"""

import errno
import hashlib
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, BinaryIO

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge

from stems.errors import StateUnavailable, TransientError, UnknownTrack
from stems.index import Index
from stems.jobs import Job, Jobs
from stems.options import Options
from stems.storage import Storage
from stems.tracks import envelope, parameters
from stems.tracks.intake import Intake
from stems.tracks.removal import Removal

# Each song is in a file of its own on the way from the client to the bucket: so many at a time.
AT_A_TIME = 16
_TURN_S = 30.0
_LISTED = 1000  # as many as /v1/queue lists
_METADATA_LIMIT = 2000  # bytes: S3 takes 2 KiB
_ANNOUNCED_S = 0.5  # MinIO needs 5 ms
# The stems of the lab: its text calls the bass base.
_OTHER_NAMES = {"base": "bass"}
_KEY = re.compile(r"apiv1/(?:[0-9a-f]{16}/)?([0-9a-f]{64})\.mp3")


def routes(storage: Storage, jobs: Jobs, index: Index, intake: Intake, removal: Removal, max_bytes: int) -> Blueprint:
    """Return the routes; `max_bytes`: the size of the largest song."""
    classic = Blueprint("classic", __name__, url_prefix="/apiv1")
    turns = threading.BoundedSemaphore(AT_A_TIME)

    @classic.post("/separate", strict_slashes=False)
    def separate() -> Response:
        with _turn(turns), _scratch() as file:
            songhash, size, asked = _receive(file, max_bytes)
            metadata = _metadata(asked)
            upload = intake.put(_key(songhash, metadata), file, size, "audio/mpeg", metadata)
        _wait_until_known(jobs, upload.job)
        return jsonify(hash=songhash, reason="Song enqueued for separation")

    @classic.get("/queue", strict_slashes=False)
    def queue() -> Response:
        view = jobs.view(_LISTED)
        response = jsonify(queue=list(dict.fromkeys(map(_hash, (*view.running_jobs, *view.waiting_jobs)))))
        response.cache_control.no_store = True
        return response

    @classic.get("/track/<songhash>/<track>")
    def track(songhash: str, track: str) -> Any:
        return current_app.view_functions["download.stem"](songhash=songhash, name=_name(track))

    @classic.route("/remove/<songhash>/<track>", methods=["GET", "DELETE"])
    def remove(songhash: str, track: str) -> Response:
        if request.method == "HEAD":  # comes with GET, and must change nothing
            raise BadRequest("HEAD removes nothing: use DELETE")
        stem, dot, format = _name(track).partition(".")
        with removal.held(parameters.songhash(songhash)):
            found = storage.track(songhash)
            gone = [each for each in found.stems if each.stem == stem and (not dot or each.format == format)]
            if not gone:
                names = ", ".join(f"{each.stem}.{each.format}" for each in found.stems)
                raise UnknownTrack(f"the track {songhash} has no stem {track}; it has {names}")
            rest = replace(found, stems=tuple(each for each in found.stems if each not in gone))
            if rest.stems:
                # The record first: from then on there is no such stem.
                storage.put_record(rest)
                storage.remove_stems(gone)
                with suppress(StateUnavailable):  # the list is told with the next separation, or when it is rebuilt
                    index.add(rest)
            else:
                removal.remove(found)
        return jsonify(hash=songhash, track=track, reason="Track removed")

    return classic


@contextmanager
def _turn(turns: threading.BoundedSemaphore) -> Iterator[None]:
    """Wait for a turn. Raises TransientError when there is none for long."""
    if not turns.acquire(timeout=_TURN_S):
        raise TransientError(f"{AT_A_TIME} songs are being received", retry_after_s=5)
    try:
        yield
    finally:
        turns.release()


@contextmanager
def _scratch() -> Iterator[BinaryIO]:
    """Open a file that nobody else sees. Raises TransientError where the disk is full."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise TransientError("there is no space left for songs on their way to the bucket", retry_after_s=5) from error


class _Hashed:
    """A file that knows the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        """Write like a file."""
        self.digest.update(data)
        self._file.write(data)


def _receive(file: BinaryIO, max_bytes: int) -> tuple[str, int, dict[str, Any]]:
    """Write the song of the current request to `file`; return its hash, its size and the request without it."""
    hashed = _Hashed(file)
    try:
        asked, size = envelope.read(request.stream, "mp3", hashed, max_bytes)
    except envelope.Malformed as error:
        _drain(max_bytes)
        raise BadRequest(str(error)) from error
    except envelope.TooLong as error:
        _drain(max_bytes)
        raise RequestEntityTooLarge(str(error)) from error
    except ClientDisconnected as error:
        raise BadRequest(f"the body ended early: {error}") from error
    file.seek(0)
    return hashed.digest.hexdigest(), size, asked


def _drain(most: int) -> None:
    """Read what the client still sends, within reason: who is cut off while he sends does not see the answer."""
    with suppress(OSError, ClientDisconnected):
        while most > 0 and (data := request.stream.read(1 << 18)):
            most -= len(data)


def _metadata(asked: dict[str, Any]) -> dict[str, str]:
    """Return what is asked for as the metadata of the upload. Raises BadRequest, BadOptions."""
    model, callback = asked.get("model") or "", asked.get("callback") or {}
    if not isinstance(model, str):
        raise BadRequest(f"model={json.dumps(model)[:200]}: must be a string")
    if not isinstance(callback, dict):
        raise BadRequest(f"callback={json.dumps(callback)[:200]}: must be an object with url and data")
    url = callback.get("url") or ""
    if not isinstance(url, str):
        raise BadRequest(f"callback.url={json.dumps(url)[:200]}: must be a string")
    given = {"model": model.strip(), "callback": url.strip()}
    if url:
        given["callback-data"] = json.dumps(callback.get("data"), separators=(",", ":"))
    metadata = {f"x-amz-meta-{name}": value for name, value in given.items() if value}
    Options.from_metadata(metadata)
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > _METADATA_LIMIT:
        raise BadRequest(f"callback: {size} bytes of url and data, as JSON in ASCII; at most {_METADATA_LIMIT}")
    return metadata


def _key(songhash: str, metadata: dict[str, str]) -> str:
    """Return the key of an upload: one for each wish, so that none overwrites another that still waits."""
    wish = json.dumps(metadata, sort_keys=True).encode()
    folder = f"{hashlib.sha256(wish).hexdigest()[:16]}/" if metadata else ""
    return f"apiv1/{folder}{songhash}.mp3"


def _hash(job: Job) -> str:
    """Return the song hash of a job, as far as it is known before a worker has its bytes; else the job's id."""
    match = _KEY.fullmatch(job.key)
    return match[1] if match else job.songhash or job.id


def _name(track: str) -> str:
    stem, dot, extension = track.partition(".")
    return f"{_OTHER_NAMES.get(stem, stem)}{dot}{extension}"


def _wait_until_known(jobs: Jobs, job: str) -> None:
    """Wait until the queue shows a job whose upload is in the bucket: such clients ask for it at once, and once."""
    deadline = time.monotonic() + _ANNOUNCED_S
    with suppress(StateUnavailable):  # it is in the bucket: Redis comes back, and it will be separated
        while time.monotonic() < deadline:
            # Entered, not announced alone: between the two it is on its way through the relay, and in no list.
            if jobs.get([job]):
                return
            time.sleep(0.005)
