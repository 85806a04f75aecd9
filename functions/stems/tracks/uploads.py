"""/v1/uploads and POST /v1/tracks: songs into the bucket, past this function or through it."""

import mimetypes
import re
import secrets
from pathlib import PurePosixPath
from typing import Any, Protocol

from flask import Response, jsonify, request
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, UnsupportedMediaType

from stems.jobs import Jobs
from stems.tracks import asked, bodies, line, parameters, schemas
from stems.tracks.api import Answer, Routes
from stems.tracks.intake import Intake
from stems.tracks.limits import Transfers

_FORM_S = 3600
_NAME_BYTES = 240  # of a part of a key, S3's servers on disks take 255
_SOUND = re.compile(r"(audio|video)/.*|application/(ogg|octet-stream)")
_UNKNOWN = "application/octet-stream"


def routes(jobs: Jobs, intake: Intake, transfers: Transfers, max_bytes: int) -> Routes:
    """Return the routes; `max_bytes`: the size of the largest song."""
    uploads = Routes("uploads", "Songs into the bucket `queue`")

    @uploads.add(
        "/v1/uploads",
        method="POST",
        body=asked.Song,
        good={200: Answer(schemas.Form)},
        bad=(400, 408, 413, 415, 422, 503),
        more={
            "summary": "Ask for a form to upload a song with",
            "description": "The browser sends the form straight to MinIO: `fields` as they are, then `file`. The form "
            "is good for one object of this name, type and size, for an hour. The job's id stands in `/v1/queue` and "
            "in the events, by `key`.",
        },
    )
    def form(body: dict[str, Any]) -> Response:
        size = body.get("size")
        if size and size > max_bytes:
            raise RequestEntityTooLarge(f"size={size}: at most {max_bytes} bytes")
        bounds = (size, size) if size else (1, max_bytes)
        made = intake.form(_key(body["name"]), _type(body["name"]), parameters.options(body), bounds, _FORM_S)
        response = jsonify(
            key=made.fields["key"],
            url=made.url,
            fields=made.fields,
            expires=bodies.timestamp(int(made.expires.timestamp() * 1000)),
            max_bytes=bounds[1],
        )
        response.cache_control.no_store = True
        return response

    @uploads.add(
        "/v1/tracks",
        method="POST",
        query=asked.PutQuery,
        good={202: Answer(schemas.Job, headers=("Location",))},
        bad=(400, 408, 413, 415, 422, 503),
        more={
            "summary": "Upload a song",
            "description": "The body is the file, of any length, with `Content-Length` or chunked.",
            "requestBody": {
                "required": True,
                "content": {_UNKNOWN: {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
            },
        },
    )
    def put(query: dict[str, Any]) -> Response:
        key, kind, metadata = _key(query["name"]), _type(query["name"]), parameters.options(query)
        length = -1 if request.content_length is None else request.content_length
        if length > max_bytes:
            raise RequestEntityTooLarge(f"Content-Length={length}: at most {max_bytes} bytes")
        body = _Body(request.stream, max_bytes)
        if not body.begins():
            raise BadRequest("the body is empty: it must be the song's file")
        end = transfers.begin()
        try:
            upload = intake.put(key, body, length, kind, metadata)
        except BlockingIOError:
            raise
        except (OSError, ClientDisconnected) as error:  # from the body: MinIO's own have been translated
            raise BadRequest(f"the body ended early: {error}") from error
        finally:
            end()
        return line.accepted(jobs, upload)

    return uploads


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Body:
    """The body of a request, up to a limit."""

    def __init__(self, stream: _Stream, limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit
        self._first = b""

    def begins(self) -> bool:
        """Tell whether there is anything to read."""
        self._first = self._stream.read(1)
        return bool(self._first)

    def read(self, size: int = -1) -> bytes:
        """Read like a file. Raises RequestEntityTooLarge."""
        first, self._first = self._first, b""
        data = first + self._stream.read(size - len(first))
        self._left -= len(data)
        if self._left < 0:
            raise RequestEntityTooLarge(f"the body is longer than {self._limit} bytes")
        return data


def _key(name: str) -> str:
    """Return a key of its own for a song: two songs of one name must not overwrite each other."""
    short = name.encode(errors="replace")  # JSON may hold halves of characters
    suffix = PurePosixPath(name).suffix.encode(errors="replace")
    if len(short) > _NAME_BYTES:
        suffix = suffix if len(suffix) < 16 else b""
        stem = short[: _NAME_BYTES - len(suffix)].decode(errors="ignore").encode()
        short = stem + suffix
    return f"{secrets.token_hex(6)}/{short.decode()}"


def _type(name: str) -> str:
    """Return the content type of a song by its name. Raises UnsupportedMediaType for what is no sound."""
    kind = mimetypes.guess_type(name)[0] or _UNKNOWN
    if not _SOUND.fullmatch(kind):
        raise UnsupportedMediaType(f"name={name}: {kind} is no sound")
    return kind
