"""Per-song options, as metadata on the upload."""

import json
from pathlib import Path

import pytest

from stems.errors import BadOptions
from stems.options import FORMATS, Options, extension, quality, serves

METADATA = Path(__file__).parents[2] / "events" / "samples" / "listing" / "metadata.json"
SOURCES = ("drums", "bass", "other", "vocals")


def test_nothing_asked_for() -> None:
    assert Options.from_metadata({}) == Options(model=None, stems=(), formats=("mp3",))
    assert Options.from_metadata({"stems": "", "format": " ", "model": ""}) == Options()


def test_as_mc_writes_them() -> None:
    metadata = json.loads(METADATA.read_text())["metadata"]
    assert "X-Amz-Meta-Stems" in metadata
    assert Options.from_metadata(metadata) == Options(stems=("vocals",), formats=("flac",))


@pytest.mark.parametrize("name", ["stems", "Stems", "x-amz-meta-stems", "X-Amz-Meta-Stems", "X-AMZ-META-STEMS"])
def test_names_in_any_case_with_or_without_prefix(name: str) -> None:
    assert Options.from_metadata({name: "bass"}).stems == ("bass",)


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("vocals", ("vocals",)),
        ("vocals,drums", ("vocals", "drums")),
        ("vocals, drums", ("vocals", "drums")),
        ("vocals drums", ("vocals", "drums")),
        (" Vocals ,, DRUMS ,", ("vocals", "drums")),
        ("vocals,vocals", ("vocals",)),
        ("no_vocals", ("no_vocals",)),
    ],
)
def test_lists(text: str, stems: tuple[str, ...]) -> None:
    assert Options.from_metadata({"stems": text}).stems == stems


def test_every_format() -> None:
    assert Options.from_metadata({"format": ",".join(FORMATS)}).formats == tuple(FORMATS)


def test_a_models_name_keeps_its_case() -> None:
    assert Options.from_metadata({"model": " htdemucs_FT "}).model == "htdemucs_FT"


def test_metadata_of_other_tools_is_left_alone() -> None:
    others = {"content-type": "audio/mpeg", "X-Amz-Meta-Mtime": "1.5", "x-amz-meta-s3cmd-attrs": "uid:0", "Etag": '"0"'}
    assert Options.from_metadata(others) == Options()


def test_a_receiver() -> None:
    metadata = {"X-Amz-Meta-Callback": " https://example.com/hook?a=b ", "x-amz-meta-callback-data": '{"a": [1, null]}'}
    options = Options.from_metadata(metadata)
    assert (options.callback, options.callback_data) == ("https://example.com/hook?a=b", '{"a": [1, null]}')
    assert Options.from_metadata({"callback": "http://10.0.0.1"}).callback_data is None, "an event is sent"
    assert Options.from_metadata({"callback": "", "callback-data": ""}) == Options()


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"callback": "ftp://example.com"}, "callback=ftp://example.com: not an http"),
        ({"callback": "http://u:p@example.com"}, "callback=http://…@example.com: no user"),
        ({"callback": "https://example.com/hook?token=secret#x"}, "callback=https://example.com: has a fragment"),
        ({"callback": "example.com/hook?token=secret"}, "callback=…: not an http"),
        ({"callback": "http://bücher.example"}, "callback=http://bücher.example: has characters"),
        ({"callback": "http://x/" + "y" * 2000}, "callback=http://x: longer"),
        ({"callback-data": "{}"}, "callback-data={}: there is no callback"),
        ({"callback": "http://x", "callback-data": "{"}, "callback-data={: not JSON"),
        ({"callback": "http://x", "callback-data": "[" * 1900}, "callback-data=["),
        ({"model": "../secret"}, "model=../secret"),
        ({"model": "a b"}, "model=a b"),
        ({"model": "m" * 65}, "model="),
        ({"stems": "vocals;drums"}, "stems=vocals;drums"),
        ({"stems": "../vocals"}, "stems=../vocals"),
        ({"stems": "v" * 33}, "stems="),
        ({"stems": "völs"}, "stems=völs"),
        ({"format": "mp4"}, "format=mp4"),
        ({"x-amz-meta-format": "mp3,ogg"}, "format=mp3,ogg"),
    ],
)
def test_wrong_values_are_named(metadata: dict[str, str], named: str) -> None:
    with pytest.raises(BadOptions) as caught:
        Options.from_metadata(metadata)
    assert str(caught.value).startswith(named)


def test_wanted_is_everything_by_default() -> None:
    assert Options().wanted(SOURCES) == SOURCES


def test_wanted_keeps_the_order_asked_for() -> None:
    assert Options(stems=("vocals", "no_vocals", "bass")).wanted(SOURCES) == ("vocals", "no_vocals", "bass")


@pytest.mark.parametrize("stem", ["piano", "no_piano", "no_", "no_no_vocals"])
def test_wanted_names_what_the_model_lacks(stem: str) -> None:
    with pytest.raises(BadOptions, match=f"no stem '{stem}'.*drums, bass, other, vocals"):
        Options(stems=("vocals", stem)).wanted(SOURCES)


def test_a_format_may_name_its_quality() -> None:
    options = Options.from_metadata({"format": "MP3-V0, flac-16 wav"})
    assert options.formats == ("mp3-v0", "flac-16", "wav")
    assert [(extension(each), quality(each)) for each in options.formats] == [
        ("mp3", "v0"), ("flac", "16"), ("wav", "24"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("flac-32", "format=flac-32: 'flac-32' is not one of flac-24, flac-16"),
        ("mp3-", "format=mp3-: 'mp3-' is not one of mp3-320"),
        ("wav-16,wav-24", "format=wav-16,wav-24: wav-16 and wav-24 would be one file"),
        ("mp3,mp3-v0", "format=mp3,mp3-v0: mp3 and mp3-v0 would be one file"),
    ],
)
def test_a_wrong_quality_is_named(given: str, words: str) -> None:
    with pytest.raises(BadOptions) as caught:
        Options.from_metadata({"format": given})
    assert str(caught.value).startswith(words)


def test_what_is_there_serves_unless_another_quality_is_asked_for() -> None:
    assert serves("mp3", "v0")
    assert serves("mp3-v0", "v0")
    assert not serves("mp3-320", "v0")
    assert serves("flac", "")
    assert not serves("flac-24", ""), "a record of 0.1.0 does not tell"


def test_options_beside_others_ask_for_each_stem_and_each_extension_once() -> None:
    asked = Options(stems=("no_vocals",), formats=("wav", "mp3-v0"))
    both = asked.beside(["drums", "no_vocals"], ["flac-16", "mp3-320", "wav-32f"], ["drums", "vocals"])
    assert both.stems == ("no_vocals", "drums")
    assert both.formats == ("wav-32f", "mp3-320", "flac-16")
