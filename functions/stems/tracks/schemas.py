"""What goes in and out as JSON and in queries: checked by it, and described by it in the OpenAPI document."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from stems.options import FORMATS

SONGHASH = "^[0-9a-f]{64}$"
NAME_LIMIT = 200

# A file's name, without folders and control characters.
_NAME = re.compile(r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]+$")
_MODEL = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_STEM = re.compile(r"^[a-z0-9_]{1,32}$")
_STEMS = re.compile(r"^[a-z0-9_]{1,32}([, ]+[a-z0-9_]{1,32}){0,15}$")
_FORMATS = re.compile("^({0})([, ]+({0})){{0,2}}$".format("|".join(FORMATS)))
_CALLBACK = re.compile(r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#][!-~]*)?$")
_STATES = ("waiting", "separating", "done", "gone", "failed", "cancelled", "dropped")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Count(fields.Integer):
    """A whole number as people write it; int() would take blanks, signs, underscores and other scripts, too."""

    def __init__(self, low: int, high: int, **options: Any) -> None:
        self._low, self._high = low, high
        super().__init__(validate=validate.Range(low, high), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> int:
        text = str(value)
        digits = text.isascii() and text.isdecimal() and len(text) < 10
        if not (digits and self._low <= int(text) <= self._high):
            raise ValidationError(f"must be a whole number from {self._low} to {self._high}")
        return int(text)


class Size(fields.Integer):
    """A whole number in JSON, where 5.0 is one, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise ValidationError("must be a whole number from 1")
        return int(value)


class Flag(fields.Integer):
    """0, as when it is left out, or 1."""

    def __init__(self, description: str) -> None:
        super().__init__(load_default=0, validate=validate.OneOf((0, 1)), metadata={"description": description})

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> int:
        if value not in {"0", "1"}:
            raise ValidationError("must be 0 or 1")
        return int(value)


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


class Track(Schema):
    """A separated song."""

    songhash = text("SHA-256 of the song's bytes", validate=validate.Regexp(SONGHASH))
    name = text("The song's name")
    bucket = text("The bucket of the upload")
    key = text("The upload's key")
    upload_etag = text("The upload's ETag")
    duration_s = fields.Float(required=True)
    sample_rate_hz = fields.Integer(required=True)
    channels = fields.Integer(required=True)
    model = fields.Nested(Model, required=True)
    created = Time(required=True)
    stems = fields.List(fields.Nested(Stem), required=True)
    stages_s = fields.Dict(fields.String(), fields.Float(), required=True, metadata={"description": "seconds by stage"})
    peaks = text("Waveforms to draw, where there are any", allow_none=True)
    zip = text("All stems in one file")


class Tracks(Schema):
    """A page of tracks."""

    tracks = fields.List(fields.Nested(Track), required=True)
    next = text("The next page; null at the end", allow_none=True)


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
    """The models that have made tracks, and the one for songs that name none."""

    default = text("The model for songs that name none")
    models = fields.List(fields.Nested(KnownModel), required=True)


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


def _callback() -> fields.String:
    checks = [
        validate.Length(max=768),
        validate.Regexp(_CALLBACK, error="must be an http:// or https:// address in ASCII"),
    ]
    return fields.String(metadata={"description": "An address that is called when the song ends"}, validate=checks)


def _model() -> fields.String:
    check = validate.Regexp(_MODEL, error="a model's name has letters, digits, _ and - only")
    return fields.String(metadata={"description": "The model"}, validate=check)


def _song_name() -> fields.String:
    wrong = "must be a file's name, without folders and control characters"
    checks = [validate.Length(1, NAME_LIMIT), validate.Regexp(_NAME, error=wrong)]
    return text("The file's name", validate=checks)


class Rerun(Schema):
    """How a song is to be separated once more."""

    model = _model()
    stems = fields.List(
        fields.String(validate=validate.Regexp(_STEM, error="{input!r} is not the name of a stem")),
        metadata={"description": "Stems to make; all of the model's without it"},
        validate=validate.Length(max=16),
    )
    format = fields.List(
        fields.String(validate=validate.OneOf(FORMATS, error="{input!r} is not one of {choices}")),
        metadata={"description": "mp3 without it"},
        validate=validate.Length(max=3),
    )


class Song(Rerun):
    """A song that is to be uploaded."""

    name = _song_name()
    size = Size(
        validate=validate.Range(1, error="must be a whole number from 1"),
        metadata={"description": "Its size in bytes, where it is known"},
    )
    callback = _callback()


class ListQuery(Schema):
    """Which tracks."""

    limit = Count(1, 1000, load_default=50)
    cursor = fields.String(metadata={"description": "From `next` of the page before"}, validate=validate.Length(1))
    q = fields.String(
        load_default="", validate=validate.Length(max=NAME_LIMIT), metadata={"description": "How the name begins"}
    )
    since = Time(metadata={"description": "None that is older"})


class QueueQuery(Schema):
    """Which jobs."""

    limit = Count(1, 1000, load_default=100)
    state = fields.String(
        validate=validate.OneOf(("waiting", "running", "failed")), metadata={"description": "These alone"}
    )


class StemQuery(Schema):
    """How a stem is to come."""

    redirect = Flag("1: an address of MinIO's instead of the bytes")


class DeleteQuery(Schema):
    """What is to go with a track."""

    upload = Flag("1: the song itself, too")


class PutQuery(Schema):
    """A song that comes as the body."""

    name = _song_name()
    model = _model()
    stems = fields.String(
        metadata={"description": "With commas between them"},
        validate=validate.Regexp(_STEMS, error="must be names of stems with commas between them"),
    )
    format = fields.String(
        metadata={"description": "mp3, flac, wav, with commas between them"},
        validate=validate.Regexp(_FORMATS, error=f"must be of {', '.join(FORMATS)}, with commas between them"),
    )
    callback = _callback()
