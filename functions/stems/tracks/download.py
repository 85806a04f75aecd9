"""/v1/tracks/<songhash>/<stem>: the bytes of a stem, whole or in part (RFC 9110), passed through from MinIO."""

from collections.abc import Iterator

import urllib3
from flask import Blueprint, Response, request
from urllib3.response import BaseHTTPResponse
from werkzeug.datastructures import Headers
from werkzeug.exceptions import PreconditionFailed

from stems.errors import ObjectGone, StorageUnavailable, UnknownTrack
from stems.options import FORMATS
from stems.record import Stem, Track
from stems.storage import Storage
from stems.tracks import filenames, parameters, ranges

_CHUNK = 256 * 1024


def routes(storage: Storage) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("download", __name__)

    @blueprint.get("/v1/tracks/<songhash>/<name>")
    def stem(songhash: str, name: str) -> Response:
        parameters.songhash(songhash)
        try:
            return _answer(storage, *_find(storage, songhash, name))
        except ObjectGone:  # separated again or removed since the record was read: the record now says which
            return _answer(storage, *_find(storage, songhash, name))

    return blueprint


def _find(storage: Storage, songhash: str, name: str) -> tuple[Track, Stem]:
    """Return the track and its stem called `name`: `vocals`, or `vocals.mp3` for this format alone."""
    track = storage.track(songhash)
    stem, dot, extension = name.partition(".")
    found = track.find(stem, extension if dot else None)
    if found is None:
        names = ", ".join(f"{stem.stem}.{stem.format}" for stem in track.stems)
        raise UnknownTrack(f"the track {songhash} has no stem {name}; it has {names}")
    return track, found


def _answer(storage: Storage, track: Track, stem: Stem) -> Response:
    """Answer the current request for a stem. Raises ObjectGone when its object is not what the record says."""
    content = {
        "Content-Type": FORMATS.get(stem.format, "application/octet-stream"),
        "Content-Disposition": filenames.attachment(track, stem),
    }
    # A presigned address is good for GET alone.
    if parameters.flag("redirect") and request.method == "GET":
        return _redirect(storage.presigned(stem.object, content))
    # The bytes stay the same until the song is separated anew: keep them, but ask.
    headers = Headers({"ETag": f'"{stem.etag}"', "Accept-Ranges": "bytes", "Cache-Control": "no-cache"})
    if request.if_match and not request.if_match.contains(stem.etag):
        raise PreconditionFailed(f'the stem has the ETag "{stem.etag}" now')
    if request.if_none_match.contains_weak(stem.etag):
        return Response(status=304, headers=headers)
    headers.extend(content)
    part = ranges.requested(request.headers.get("Range"), stem.size) if _heeds_range(stem) else None
    offset, length = part or (0, stem.size)
    headers["Content-Length"] = str(length)
    if part:
        headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{stem.size}"
    status = 206 if part else 200
    if request.method == "HEAD" or not length:
        return Response(status=status, headers=headers)
    upstream = storage.open_stem(stem.object, stem.etag, offset, length)
    response = Response(_chunks(upstream), status, headers)
    response.call_on_close(lambda: _release(upstream))
    return response


def _heeds_range(stem: Stem) -> bool:
    """Tell whether Range counts: for GET alone, and after If-Range only for the very same bytes."""
    return request.method == "GET" and request.headers.get("If-Range", f'"{stem.etag}"') == f'"{stem.etag}"'


def _redirect(url: str) -> Response:
    return Response(status=307, headers={"Location": url, "Cache-Control": "no-store"})


def _chunks(upstream: BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from upstream.stream(_CHUNK)
    except urllib3.exceptions.HTTPError as error:
        # Status and length are sent: the server ends the connection, and the client sees that bytes are missing.
        raise StorageUnavailable(f"MinIO stopped in the middle of a stem: {error}") from error


def _release(upstream: BaseHTTPResponse) -> None:
    # First close: what is unread must not be taken for the answer to the connection's next request.
    upstream.close()
    upstream.release_conn()
