"""Whatever comes in is read or refused in our own words: by hypothesis, some hundred examples each.

STEMS_FUZZ_CASES makes it long (tests/README.md says what that found).
"""

import copy
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stems import division, naming, printable, storage, tokens
from stems.cli import terminal
from stems.config import Settings
from stems.contract import TYPE_GONE, Upload, from_http, is_new_object, records, to_http
from stems.division import Wanted
from stems.errors import BadNotification, ObjectGone, PermanentError
from stems.options import FORMATS, Options, extension
from stems.record import Stem, Track
from stems.separate import app
from stems.tracks import bodies, filenames, uploads
from tests.samples import SAMPLES
from tests.unit.test_record import TRACK

NOW = datetime(2026, 11, 22, tzinfo=UTC)
CASES = int(os.environ.get("STEMS_FUZZ_CASES", "0"))
# Controls, halves of characters, separators of lines, what turns the order of the text beside it.
HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
F = TypeVar("F", bound=Callable[..., None])


def fuzz(test: F) -> F:
    """Run the same examples every time, or, when asked for many, others each time."""
    chosen = settings(
        max_examples=CASES or 200,
        derandomize=not CASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return chosen(test)


TEXT = st.text(max_size=60) | st.sampled_from(["../../x", "a\r\nb: c", "\x1b[2J", "%2F..%2f", "\ud800", "﷽" * 300, "."])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = [path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))]


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """Return a copy of some JSON in which something, at any depth, is something else or gone."""
    made = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = made
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
                if draw(st.booleans()):
                    place[key] = draw(JSON)
                else:
                    del place[key]
                break
            place = place[key]
    return made


@st.composite
def bitten(draw: st.DrawFn) -> bytes:
    """Return a real payload with some bytes changed or cut off."""
    data = bytearray(draw(st.sampled_from(PAYLOADS)))
    for _ in range(draw(st.integers(0, 5))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def _record() -> Any:
    return records((SAMPLES / "put.json").read_bytes())[0]


@fuzz
@given(st.binary(max_size=300) | bitten() | JSON.map(lambda value: json.dumps(value).encode()))
def test_notifications(payload: bytes) -> None:
    try:
        found = records(payload)
    except BadNotification:
        return
    for record in found:
        is_new_object(record)
        _read(record)


@fuzz
@given(JSON | changed(_record()))
def test_records_of_notifications(record: Any) -> None:
    if isinstance(record, dict):
        is_new_object(record)
    _read(record)


def _read(record: Any) -> None:
    try:
        upload = Upload.from_record(record)
    except BadNotification:
        return
    assert re.fullmatch("[0-9a-f]{32}", upload.job)
    assert upload.bucket
    assert upload.etag
    assert isinstance(upload.metadata, dict)
    assert upload.place.event_id


@fuzz
@given(st.text(min_size=1, max_size=200).filter(lambda key: not re.search("[\ud800-\udfff]", key)))
def test_a_key_comes_through_as_it_is(key: str) -> None:
    record = copy.deepcopy(_record())
    record["s3"]["object"]["key"] = Upload.from_listing("queue", key, "e", 1, NOW).record["s3"]["object"]["key"]
    headers, body = to_http(Upload.from_record(record).to_event())
    assert all(str(value).isprintable() for value in headers.values())
    assert from_http(headers, body)[0].key == key


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "ce-id",
            "ce-type",
            "ce-source",
            "ce-specversion",
            "ce-time",
            "ce-traceparent",
            "ce-stemsplaces",
            "content-type",
        ]
    ),
    TEXT,
    max_size=3,
)


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Return a request as the function gets them: of a song or of a part, in either mode, with something changed."""
    song = Upload.from_record(_record())
    part = Wanted(song, "0" * 64, "0" * 16, "part-1-of-2")
    event = draw(st.sampled_from([song.to_event(), part.to_event()]))
    message = draw(st.sampled_from([to_binary_event, to_structured_event]))(event)
    whole = json.loads(message.body)
    body = (st.just(whole) | changed(whole)).map(lambda value: json.dumps(value).encode())
    return {**message.headers, **draw(HEADERS)}, draw(body | st.binary(max_size=200) | bitten())


@fuzz
@given(asked())
def test_the_edge_of_cloudevents(request: tuple[dict[str, str], bytes]) -> None:
    try:
        found, place = division.from_http(*request)
    except BadNotification:
        return
    assert found.key
    assert place.event_id
    assert re.fullmatch(r"[0-9a-f]{32}|p[0-9a-f]{32}\.[0-9a-f]{16}\.part-\d+-of-\d+|p.*join-\w+", found.job)
    if isinstance(found, Wanted):
        assert division.from_http(*found.to_http())[0] == found


class _Nobody:
    """A worker for whom every song is gone."""

    def __init__(self, *_: object) -> None:
        pass

    def load_model(self) -> Any:
        return SimpleNamespace(name="none", note="", shortfall="", in_blocks=False, device=SimpleNamespace(note=""))

    def do(self, upload: Upload, *_: object) -> None:
        raise ObjectGone(f"{upload.bucket}/{upload.key} is not there any more")

    def make(self, wanted: Wanted) -> None:
        raise ObjectGone(f"{wanted.name} is not there any more")


@cache
def _function() -> FlaskClient:
    environ = {"STEMS_S3_ACCESS_KEY": "nobody", "STEMS_S3_SECRET_KEY": "nobody's"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Worker", _Nobody)
        return app.create_app(Settings.from_env(environ)).test_client()


@fuzz
@given(asked())
def test_the_function_answers_in_its_own_words(request: tuple[dict[str, str], bytes]) -> None:
    headers = {
        name: HARMFUL.sub("", value.encode(errors="replace").decode("latin-1")) for name, value in request[0].items()
    }
    answer = _function().post("/", headers=headers, data=request[1])
    assert all(value.isprintable() for _, value in answer.headers)
    if answer.status_code == 200:
        assert answer.headers["ce-type"] == TYPE_GONE
        return
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert not HARMFUL.search(answer.get_data(as_text=True).rstrip("\n"))
    assert json.loads(answer.data)["title"] == "BadNotification"


@fuzz
@given(st.binary(max_size=200) | (JSON | changed(TRACK.to_dict())).map(lambda value: json.dumps(value).encode()))
def test_track_records(text: bytes) -> None:
    try:
        track = Track.from_json(text)
    except ValueError:
        return
    assert Track.from_json(track.to_json()) == track
    json.dumps(bodies.track(track), allow_nan=False)
    for stem in track.stems:
        assert filenames.attachment(track, stem).isascii()


@fuzz
@given(TEXT)
def test_names(key: str) -> None:
    job, name = naming.job_id("queue", key.encode(errors="replace").decode(), "e"), naming.song_name(key)
    assert re.fullmatch("[0-9a-f]{32}", job)
    assert name or not key
    if naming.is_songhash(key):
        assert re.fullmatch("[0-9a-f]{64}", key)
    assert naming.songhash_of_record(f"{key}.json") in (None, key)
    for header in _headers(key):
        assert header.isascii()
        assert header.isprintable()
        assert header.count('"') % 2 == 0
    if key:
        made = uploads._key(key.replace("/", "_"))
        assert len(made.encode()) < 260
        assert made.count("/") == 1


def _headers(key: str) -> tuple[str, str]:
    track = Track(**{**{name: getattr(TRACK, name) for name in Track.__slots__}, "name": key or "x"})
    return filenames.attachment(track, Stem("vocals", "mp3", "x", 1, "e", 0.0)), filenames.archive(track)


@fuzz
@given(TEXT)
def test_words_of_strangers_in_logs_tags_and_terminals(text: str) -> None:
    assert printable.escaped(text).isprintable()
    for indent in (None, 2):
        line = printable.as_json({text: [text]}, indent=indent)
        assert json.loads(line) == {text: [text]}
        assert not HARMFUL.search(line if indent is None else line.replace("\n", ""))
    assert not HARMFUL.search(terminal.plain(text))
    assert re.fullmatch(r"[A-Za-z0-9 +=._:/@-]{0,256}", storage._tag_value(text))


KNOWN = [f"{before}{name}" for before in ("x-amz-meta-", "X-Amz-Meta-", "") for name in ("model", "stems", "format")]
KNOWN += ["x-amz-meta-callback", "x-amz-meta-callback-data"]


@fuzz
@given(st.dictionaries(st.sampled_from(KNOWN), TEXT), st.dictionaries(TEXT | TEXT.map("x-amz-meta-".__add__), TEXT))
def test_metadata_of_whatever_names(given: dict[str, str], others: dict[str, str]) -> None:
    known = {name.lower().removeprefix("x-amz-meta-") for name in KNOWN}
    others = {name: value for name, value in others.items() if name.lower().removeprefix("x-amz-meta-") not in known}
    record = _record()
    record["s3"]["object"]["userMetadata"] = {**others, **given}
    try:
        found = Options.from_metadata(Upload.from_record(record).metadata)
    except PermanentError:
        with pytest.raises(PermanentError):
            Options.from_metadata(given)
        return
    assert found == Options.from_metadata(given), "what others note is left alone"
    assert found.formats
    assert {extension(each) for each in found.formats} <= {*FORMATS}


@fuzz
@given(st.text(max_size=300) | st.lists(TEXT).map(" ".join))
def test_files_of_tokens(text: str) -> None:
    try:
        found = tokens.parse(text)
    except ValueError:
        return
    assert tokens.parse("\n".join(token.line for token in found)) == found
