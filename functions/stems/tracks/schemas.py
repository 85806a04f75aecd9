"""What goes out as JSON, described for the OpenAPI document."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

SONGHASH = "^[0-9a-f]{64}$"

_STATES = ("waiting", "separating", "done", "gone", "failed", "cancelled", "dropped")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Time(fields.String):
    """An RFC 3339 time; loaded as milliseconds since 1970."""

    def __init__(self, **options: Any) -> None:
        metadata = {"format": "date-time", **options.pop("metadata", {})}
        super().__init__(metadata=metadata, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Any:
        try:
            time = datetime.fromisoformat(str(value).upper().replace(" ", "+"))
            if time.tzinfo is None:
                raise ValueError
        except ValueError:
            raise ValidationError("must be a time as RFC 3339 has it, such as 2026-11-22T09:30:00Z") from None
        return int((time - _EPOCH).total_seconds() * 1000)


def text(description: str, **options: Any) -> fields.String:
    """Return a field of text."""
    options.setdefault("required", True)
    return fields.String(metadata={"description": description}, **options)


def _component(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


class Problem(Schema):
    """An RFC 9457 problem: what went wrong."""

    type = text("about:blank: `title` says what kind it is")
    title = text("The kind of error")
    status = fields.Integer(required=True)
    detail = text("This error, in a sentence that names thing and value")


class Stem(Schema):
    """One stem in one format."""

    stem = text("vocals, drums, no_vocals, ...")
    format = text("mp3, flac, wav")
    quality = text("What it was made at: 320, v0 and the like for mp3, else bits; empty where that is not known")
    size = fields.Integer(required=True, metadata={"description": "bytes"})
    etag = text("The ETag of its bytes, without quotes")
    gain_db = fields.Float(required=True, metadata={"description": "What it was lowered by, so that no stem clips"})
    url = text("Where its bytes are")


class Model(Schema):
    """What made the stems."""

    name = text("The model's name")
    digest = text("SHA-256 of its weights")
    precision = text("How it was computed")
    note = text("What to know of its stems, or empty")


class Options(Schema):
    """What a song was to become, in the form that `rerun` takes."""

    model = text("The model, where one was named", required=False)
    stems = fields.List(fields.String(), required=True, metadata={"description": "None: all of the model's"})
    format = fields.List(fields.String(), required=True, metadata={"description": "mp3, flac-16 and the like"})


class Track(Schema):
    """A separated song."""

    songhash = text("SHA-256 of the song's bytes", validate=validate.Regexp(SONGHASH))
    state = text("done", validate=validate.Equal("done"))
    name = text("The song's name")
    bucket = text("The bucket of the upload")
    key = text("The upload's key")
    upload_etag = text("The upload's ETag")
    duration_s = fields.Float(required=True)
    sample_rate_hz = fields.Integer(required=True)
    channels = fields.Integer(required=True)
    model = fields.Nested(Model, required=True)
    options = fields.Nested(
        Options, required=True, allow_none=True, metadata={"description": "What was asked for, where that is known"}
    )
    created = Time(required=True)
    stems = fields.List(fields.Nested(Stem), required=True)
    stages_s = fields.Dict(fields.String(), fields.Float(), required=True, metadata={"description": "seconds by stage"})
    peaks = text("Waveforms to draw, where there are any", allow_none=True)
    zip = text("All stems in one file")


class Job(Schema):
    """An upload on its way to stems."""

    id = text("The job's id")
    name = text("The song's name")
    key = text("The upload's key in the bucket `queue`", allow_none=True)
    state = text("How it stands", validate=validate.OneOf(_STATES))
    progress = fields.Float(required=True, metadata={"description": "The part done, 0 to 1"})
    attempts = fields.Integer(required=True)
    error = text("Why it failed, or waits longer", allow_none=True)
    songhash = text("The song, once that is known", allow_none=True)
    uploaded = Time(required=True, allow_none=True)
    position = fields.Integer(
        required=True, allow_none=True, metadata={"description": "1 is next; null unless it stands in line"}
    )
    estimate_s = fields.Float(
        required=True, allow_none=True, metadata={"description": "Seconds until it is done; null where unknown"}
    )
    url = text("The track, when it is done", allow_none=True)


class Tracks(Schema):
    """A page of songs: tracks, or the jobs of those that are not done."""

    tracks = fields.List(fields.Raw(metadata={"anyOf": [_component("Track"), _component("Job")]}), required=True)
    next = text("The next page; null at the end", allow_none=True)


class Line(Schema):
    """Some jobs of one state."""

    count = fields.Integer(required=True, metadata={"description": "How many there are; the list is cut"})
    jobs = fields.List(fields.Nested(Job), required=True)


class Queue(Schema):
    """What waits, runs and failed."""

    waiting = fields.Nested(Line)
    running = fields.Nested(Line)
    failed = fields.Nested(Line)


class KnownModel(Schema):
    """A model."""

    name = text("The model's name")
    sources = fields.List(
        fields.String(), required=True, metadata={"description": "The stems it makes, as far as known"}
    )
    note = text("What to know of it, or empty")


class Models(Schema):
    """The models that have made tracks, the one for songs that name none, and the formats."""

    default = text("The model for songs that name none")
    models = fields.List(fields.Nested(KnownModel), required=True)
    formats = fields.Dict(
        fields.String(),
        fields.List(fields.String()),
        required=True,
        metadata={"description": "The qualities of each format, the usual one first"},
    )


class Form(Schema):
    """A form that a browser sends as multipart/form-data to put a song straight into the bucket `queue`."""

    key = text("The object's key")
    url = text("Where to POST it")
    fields_ = fields.Dict(
        fields.String(),
        fields.String(),
        required=True,
        data_key="fields",
        metadata={"description": "The form's fields; the field `file` comes last"},
    )
    expires = Time(required=True)
    max_bytes = fields.Integer(required=True)


class Health(Schema):
    """The function's health."""

    status = text("live or ready")
