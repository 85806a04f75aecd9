"""/v1/tracks/<songhash>/…: the bytes of a stem, whole or in part (RFC 9110), of all stems, of the waveforms.

They are passed through from MinIO, a chunk at a time.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import urllib3
from flask import Response, request
from urllib3.response import BaseHTTPResponse
from werkzeug.datastructures import Headers
from werkzeug.exceptions import PreconditionFailed

from stems.errors import ObjectGone, StorageUnavailable, UnknownTrack
from stems.options import FORMATS
from stems.record import Stem, Track
from stems.storage import Storage
from stems.tracks import archive, asked, filenames, parameters, ranges
from stems.tracks.api import IF_NONE_MATCH, SONGHASH, Answer, Routes, header
from stems.tracks.limits import Transfers

_CHUNK = 256 * 1024
_BYTES = tuple(FORMATS.values())
_STEM = {
    "in": "path",
    "name": "name",
    "required": True,
    "description": "A stem, or a stem with a format: vocals, vocals.mp3",
    "schema": {"type": "string", "pattern": r"^[a-z0-9_]{1,32}(\.[a-z0-9]{1,8})?$"},
}


def routes(storage: Storage, transfers: Transfers) -> Routes:
    """Return the routes."""
    download = Routes("download", "The bytes of a track")

    @download.add(
        "/v1/tracks/<songhash>/<stem:name>",
        query=asked.StemQuery,
        good={
            200: Answer(content_types=_BYTES, headers=("ETag", "Content-Disposition", "Accept-Ranges")),
            206: Answer(content_types=_BYTES, headers=("ETag", "Content-Range"), description="The part asked for"),
            304: Answer(description="Unchanged"),
            307: Answer(headers=("Location",), description="At MinIO's, for an hour"),
        },
        bad=(400, 404, 412, 416, 503),
        parameters=(
            SONGHASH,
            _STEM,
            header("Range", "One range of bytes"),
            header("If-Range", "Range counts only while the ETag is this one"),
            header("If-Match", "412 unless the ETag is this one"),
            IF_NONE_MATCH,
        ),
        more={"summary": "Download a stem"},
    )
    def stem(query: dict[str, Any], songhash: str, name: str) -> Response:
        parameters.songhash(songhash)
        try:
            return _answer(storage, transfers, *_find(storage, songhash, name), redirect=bool(query["redirect"]))
        except ObjectGone:  # separated again or removed since the record was read: the record now says which
            return _answer(storage, transfers, *_find(storage, songhash, name), redirect=bool(query["redirect"]))

    @download.add(
        "/v1/tracks/<songhash>/stems.zip",
        good={
            200: Answer(content_types=("application/zip",), headers=("ETag", "Content-Disposition")),
            304: Answer(description="Unchanged"),
        },
        bad=(400, 404, 503),
        parameters=(SONGHASH, IF_NONE_MATCH),
        more={"summary": "Download all stems", "description": "A ZIP file, stored, of known length."},
    )
    def everything(songhash: str) -> Response:
        return _zip(storage, transfers, storage.track(parameters.songhash(songhash)))

    @download.add(
        "/v1/tracks/<songhash>/peaks.json",
        good={
            200: Answer(content_types=("application/json",), headers=("ETag",)),
            304: Answer(description="Unchanged"),
        },
        bad=(400, 404, 503),
        parameters=(SONGHASH, IF_NONE_MATCH),
        more={
            "summary": "Show the waveforms",
            "description": "`stems` has for each stem at most 2000 points from 0 to 255 (full scale), each the "
            "greatest sample of an equal share of the `length` samples.",
        },
    )
    def peaks(songhash: str) -> Response:
        track = storage.track(parameters.songhash(songhash))
        if not track.peaks:
            raise UnknownTrack(f"the track {songhash} has no waveforms: it was separated before there were any")
        try:
            upstream = storage.open(track.peaks)
        except ObjectGone:
            raise UnknownTrack(f"the waveforms of the track {songhash} are not there any more") from None
        try:
            etag, data = upstream.headers.get("ETag", "").strip('"'), upstream.read()
        finally:
            _release(upstream)
        response = Response(data, content_type="application/json")
        response.set_etag(etag)
        response.cache_control.no_cache = True
        response.make_conditional(request)
        return response

    return download


def _find(storage: Storage, songhash: str, name: str) -> tuple[Track, Stem]:
    """Return the track and its stem called `name`: `vocals`, or `vocals.mp3` for this format alone."""
    track = storage.track(songhash)
    stem, dot, extension = name.partition(".")
    found = track.find(stem, extension if dot else None)
    if found is None:
        names = ", ".join(f"{stem.stem}.{stem.format}" for stem in track.stems)
        raise UnknownTrack(f"the track {songhash} has no stem {name}; it has {names}")
    return track, found


def _answer(storage: Storage, transfers: Transfers, track: Track, stem: Stem, *, redirect: bool) -> Response:
    """Answer the current request for a stem. Raises ObjectGone when its object is not what the record says."""
    content = {
        "Content-Type": FORMATS.get(stem.format, "application/octet-stream"),
        "Content-Disposition": filenames.attachment(track, stem),
    }
    # A presigned address is good for GET alone.
    if redirect and request.method == "GET":
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
    end = transfers.begin()
    try:
        upstream = storage.open_stem(stem.object, stem.etag, offset, length)
    except BaseException:
        end()
        raise
    response = Response(_chunks(upstream), status, headers)
    response.call_on_close(lambda: _release(upstream))
    response.call_on_close(end)
    return response


def _zip(storage: Storage, transfers: Transfers, track: Track) -> Response:
    """Answer the current request for all stems, one after the other."""
    entries = [archive.Entry(filenames.member(track, stem), stem.size) for stem in track.stems]
    etag = hashlib.sha256("\0".join(f"{e.name} {s.etag}" for e, s in zip(entries, track.stems, strict=True)).encode())
    headers = Headers({"ETag": f'"{etag.hexdigest()[:32]}"', "Cache-Control": "no-cache"})
    if request.if_none_match.contains_weak(etag.hexdigest()[:32]):
        return Response(status=304, headers=headers)
    headers["Content-Disposition"] = filenames.archive(track)
    headers["Content-Length"] = str(archive.length(entries))
    headers["Content-Type"] = "application/zip"
    if request.method == "HEAD":
        return Response(headers=headers)
    for stem in track.stems:  # while a problem can still be answered
        if not storage.has(stem.object, stem.etag):
            raise UnknownTrack(f"the stem {stem.stem}.{stem.format} of {track.songhash} is not there any more")
    end = transfers.begin()
    made = datetime.fromtimestamp(track.created_ms / 1000, UTC)
    response = Response(archive.stream(entries, _reader(storage, track), made), headers=headers)
    response.call_on_close(end)
    return response


def _reader(storage: Storage, track: Track) -> Callable[[int], Iterator[bytes]]:
    def read(number: int) -> Iterator[bytes]:
        stem = track.stems[number]
        if not stem.size:
            return
        upstream = storage.open_stem(stem.object, stem.etag, 0, stem.size)
        try:
            yield from _chunks(upstream)
        finally:
            _release(upstream)

    return read


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
