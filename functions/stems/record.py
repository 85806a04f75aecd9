"""The track record: what `<songhash>.json` says of a separated song. Readers trust it alone."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

_LARGEST = 253_402_214_400_000  # milliseconds until the last day of the year 9999, which no size reaches


@dataclass(frozen=True, slots=True)
class Stem:
    """One object of the result. `size` in bytes; `etag` without quotes; `gain_db`: what it was lowered by so that
    no stem of the song clips (stems of one gain add up to the song at that gain); `quality`: what the format was made
    at, as in stems.options.QUALITIES, or empty in a record of 0.1.0."""

    stem: str
    format: str
    object: str
    size: int
    etag: str
    gain_db: float
    quality: str = ""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What made the stems. `digest`: SHA-256 of the weights; `note`: what to know of such stems, or empty."""

    name: str
    digest: str
    precision: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for when the song was separated last, as `stems.options` has it: `model` empty for the worker's
    own, `stems` empty for all of the model's."""

    model: str = ""
    stems: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Track:
    """A separated song. `created_ms`: when the record was written, in milliseconds since 1970; `stages_s`: seconds
    per stage; `peaks`: the object of its waveforms, or empty; `options`: None in a record of 0.1.0."""

    songhash: str
    name: str
    bucket: str
    key: str
    upload_etag: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    model: ModelInfo
    created_ms: int
    stems: tuple[Stem, ...]
    stages_s: Mapping[str, float] = field(default_factory=dict)
    peaks: str = ""
    options: Asked | None = None

    def find(self, stem: str, format: str | None = None) -> Stem | None:
        """Return the stem in this format, or in the first one there is."""
        return next((s for s in self.stems if s.stem == stem and format in (None, s.format)), None)

    @property
    def objects(self) -> tuple[str, ...]:
        """The objects that belong to the track, beside its record."""
        return (*(stem.object for stem in self.stems), *filter(None, [self.peaks]))

    def merged(self, other: "Track") -> "Track":
        """Return this record with the stems of `other`, an older one of the same song and model, kept."""
        mine = {(stem.stem, stem.format) for stem in self.stems}
        kept = tuple(stem for stem in other.stems if (stem.stem, stem.format) not in mine)
        return replace(self, stems=kept + self.stems)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, ready for JSON."""
        return asdict(self)

    def to_json(self) -> bytes:
        """Return the bytes of `<songhash>.json`."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Track":
        """Read a record; fields that this version does not know are left out. Raises ValueError if it is none."""
        try:
            data: dict[str, Any] = json.loads(text)
            data["model"] = ModelInfo(**_known(ModelInfo, data["model"]))
            data["stems"] = tuple(Stem(**_known(Stem, stem)) for stem in data["stems"])
            if asked := data.get("options"):
                lists = {name: tuple(asked.get(name, ())) for name in ("stems", "formats")}
                data["options"] = Asked(str(asked.get("model", "")), **lists)
            return cls(**_known(cls, data))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a track record: {error}") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.encode(errors="replace").decode() == value  # JSON may hold halves


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST


_CHECKS: Mapping[Any, Callable[[Any], bool]] = {
    str: _is_text,
    int: lambda value: type(value) is int and 0 <= value < _LARGEST,
    float: _is_number,
    Mapping[str, float]: lambda value: (
        isinstance(value, dict) and all(map(_is_text, value)) and all(map(_is_number, value.values()))
    ),
}


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `kind` that `data` has. Raises ValueError for one of another type: readers go by these."""
    wanted = {each.name: each.type for each in fields(kind)}
    found = {name: value for name, value in data.items() if name in wanted}
    for name, value in found.items():
        if wanted[name] in _CHECKS and not _CHECKS[wanted[name]](value):
            raise ValueError(f"{name}={str(value)[:100]!r}")
    return found
