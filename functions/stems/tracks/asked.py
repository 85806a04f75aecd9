"""What comes in as JSON and in queries: checked by it, and described by it in the OpenAPI document."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from stems.options import choices
from stems.tracks import schemas

NAME_LIMIT = 200

# Where a pattern ends in `$` alone, a line end behind it would be let through.
# A file's name, without folders and control characters.
_NAME = re.compile(r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]+$(?!\n)")
_MODEL = re.compile(r"^[A-Za-z0-9_-]{1,64}$(?!\n)")
_STEM = re.compile(r"^[a-z0-9_]{1,32}$(?!\n)")
_STEMS = re.compile(r"^[a-z0-9_]{1,32}([, ]+[a-z0-9_]{1,32}){0,15}$(?!\n)")
_FORMATS = re.compile(r"^({0})([, ]+({0})){{0,2}}$(?!\n)".format("|".join(choices())))
_CALLBACK = re.compile(r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#][!-~]*)?$(?!\n)")


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
    return schemas.text("The file's name", validate=checks)


class Rerun(Schema):
    """How a song is to be separated once more."""

    model = _model()
    stems = fields.List(
        fields.String(validate=validate.Regexp(_STEM, error="{input!r} is not the name of a stem")),
        metadata={"description": "Stems to make; all of the model's without it"},
        validate=validate.Length(max=16),
    )
    format = fields.List(
        fields.String(validate=validate.OneOf(choices(), error="{input!r} is not one of {choices}")),
        metadata={"description": "Formats, with a quality where it is to be another than the usual; mp3 without it"},
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
    state = fields.String(
        load_default="done",
        validate=validate.OneOf(("done", "waiting", "running", "failed")),
        metadata={"description": "Songs that stand so; of those that are not done, their jobs"},
    )
    cursor = fields.String(metadata={"description": "From `next` of the page before"}, validate=validate.Length(1))
    q = fields.String(
        load_default="", validate=validate.Length(max=NAME_LIMIT), metadata={"description": "How the name begins"}
    )
    since = schemas.Time(metadata={"description": "None that is older"})


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
        metadata={"description": "mp3, flac-16 and the like, with commas between them"},
        validate=validate.Regexp(_FORMATS, error=f"must be of {', '.join(choices())}, with commas between them"),
    )
    callback = _callback()
