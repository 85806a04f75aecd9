"""What one upload asks for, as its object metadata says (`mc cp --attr "stems=vocals;format=flac"`)."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stems import address
from stems.errors import BadOptions
from stems.naming import is_stem

# Extension (also the option's value) -> content type; the encoder makes exactly these.
FORMATS: Mapping[str, str] = {"mp3": "audio/mpeg", "flac": "audio/flac", "wav": "audio/wav"}
# What each can be made at, as in `mp3-v0`; the first is what a format alone gets. For mp3 kbit/s, or LAME's variable
# rates; for the others bits, f for floating point.
QUALITIES: Mapping[str, tuple[str, ...]] = {
    "mp3": ("320", "256", "192", "128", "v0", "v2", "v4"),
    "flac": ("24", "16"),
    "wav": ("24", "16", "32f"),
}
COMPLEMENT = "no_"  # `no_vocals` is the song without its vocals

_SHOWN = 200  # characters of a wrong value
_MODEL = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Options:
    """`model`: None for the worker's own; `stems`: empty for all of the model's; `formats`: at least one, no two with
    the same extension: `wav`, `wav-16`.

    `callback`: the URL that is called when the song ends, or empty; `callback_data`: the JSON that is posted to it,
    None for an event that tells of the song.
    """

    model: str | None = None
    stems: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("mp3",)
    callback: str = ""
    callback_data: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Options":
        """Read the options from S3 user metadata; keys are taken with or without `x-amz-meta-`, in any case.

        Metadata of other tools (mtime and the like) is left alone. Raises BadOptions naming option and value.
        """
        given = {name.lower().removeprefix("x-amz-meta-"): value.strip() for name, value in metadata.items()}
        model = given.get("model") or None
        if model is not None and not _MODEL.fullmatch(model):
            raise BadOptions(f"model={model}: a model's name has letters, digits, _ and - only")
        stems = _words(given.get("stems", ""))
        for stem in stems:
            if not is_stem(stem):
                raise BadOptions(f"stems={given['stems']}: {stem!r} is not the name of a stem")
        formats = _words(given.get("format", "")) or ("mp3",)
        for name in formats:
            _check_format(name, given.get("format", name))
        twice = [name for name in formats if sum(extension(name) == extension(other) for other in formats) > 1]
        if twice:
            raise BadOptions(f"format={given['format']}: {' and '.join(twice)} would be one file")
        return cls(model, stems, formats, *_callback(given))

    def wanted(self, sources: Sequence[str]) -> tuple[str, ...]:
        """Return the stems to make with a model of these sources; BadOptions for one that it cannot make."""
        for stem in self.stems:
            if stem.removeprefix(COMPLEMENT) not in sources:
                raise BadOptions(
                    f"stems={','.join(self.stems)}: the model has no stem {stem!r}; "
                    f"it has {', '.join(sources)}, and each with {COMPLEMENT} in front"
                )
        return self.stems or tuple(sources)

    def beside(self, stems: Iterable[str], formats: Iterable[str], sources: Sequence[str]) -> "Options":
        """Return options that ask for these stems and formats, too; of each extension there is one, these first."""
        by_extension = {extension(each): each for each in (*self.formats, *formats)}
        every = dict.fromkeys((*self.wanted(sources), *stems))
        return replace(self, stems=tuple(every), formats=tuple(by_extension.values()))


def choices() -> tuple[str, ...]:
    """Return all that `format` may name: each extension, and each with a quality."""
    made = (f"{kind}-{each}" for kind, known in QUALITIES.items() for each in known)
    return (*FORMATS, *made)


def extension(format: str) -> str:
    """Return the extension of the files of a format: `wav` of `wav-16`."""
    return format.partition("-")[0]


def quality(format: str) -> str:
    """Return what the files of a format are made at: `16` of `wav-16`, the usual `24` of `wav`."""
    return format.partition("-")[2] or QUALITIES[extension(format)][0]


def serves(format: str, made: str) -> bool:
    """Tell whether a file made at the quality `made` is what `format` asks for: any is, if it asks for none."""
    return format.partition("-")[2] in ("", made)


def _check_format(name: str, given: str) -> None:
    kind, _, wanted = name.partition("-")
    if kind not in FORMATS:
        raise BadOptions(f"format={given}: {name!r} is not one of {', '.join(FORMATS)}")
    if name != kind and wanted not in QUALITIES[kind]:
        known = ", ".join(f"{kind}-{each}" for each in QUALITIES[kind])
        raise BadOptions(f"format={given}: {name!r} is not one of {known}")


def _callback(given: Mapping[str, str]) -> tuple[str, str | None]:
    url, data = given.get("callback", ""), given.get("callback-data", "")
    if not url and data:
        raise BadOptions(f"callback-data={data[:_SHOWN]}: there is no callback to post it to")
    if not url:
        return "", None
    try:
        address.callback_url(url)
    except ValueError as error:
        raise BadOptions(f"callback={address.shown(url)[:_SHOWN]}: {error}") from None
    try:
        if data:
            json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadOptions(f"callback-data={data[:_SHOWN]}: not JSON: {error}") from None
    return url, data or None


def _words(text: str) -> tuple[str, ...]:
    """Split at commas or blanks, lower-case, each word once, in order."""
    return tuple(dict.fromkeys(text.lower().replace(",", " ").split()))
