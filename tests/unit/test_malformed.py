"""Payloads, records and requests that the contract refuses."""

import json
from typing import Any

import pytest

from stems.contract import TYPE_SEPARATED, Upload, from_http, records, to_http
from stems.errors import BadNotification
from tests.samples import SAMPLES, sample, structured


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"song.mp3",
        b"\xff\xfe",
        b"null",
        b"3",
        b'"Event"',
        b"[]",
        b"{}",
        b"[null]",
        b"[3]",
        b"[[]]",
        b'["Event"]',
        b'[{"Event":null}]',
        b'[{"Event":[]}]',
        b'[{"Event":"put"}]',
        b'[{"Event":{"s3":{}}}]',
        b'[{"Event":[1]}]',
        b'{"Records":null}',
        b'{"Records":[]}',
    ],
)
def test_malformed_payloads(payload: bytes) -> None:
    with pytest.raises(BadNotification):
        records(payload)


def test_a_cut_off_payload() -> None:
    payload = (SAMPLES / "put.json").read_bytes()
    for length in range(0, len(payload) - 1, 50):
        with pytest.raises(BadNotification):
            records(payload[:length])


GOOD = {"name": "queue", "key": "a.mp3", "etag": "0", "sequencer": "18EA47EF11C0097B"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": 3},
        {"key": None},
        {"key": ""},
        {"key": ["a"]},
        {"etag": None},
        {"etag": ""},
        {"sequencer": "yesterday"},
        {"sequencer": "-18EA47EF11C0097B"},
        {"sequencer": "-" + "F" * 20},  # before the year 1
        {"sequencer": "F" * 20},  # after 9999
        {"sequencer": 5},
    ],
)
def test_malformed_records(change: dict[str, Any]) -> None:
    values = GOOD | change
    record = {
        "eventTime": "2026-01-02T03:04:05Z",
        "s3": {
            "bucket": {"name": values["name"]},
            "object": {"key": values["key"], "eTag": values["etag"], "sequencer": values["sequencer"]},
        },
    }
    with pytest.raises(BadNotification):
        Upload.from_record(record)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"s3": None},
        {"s3": "queue"},
        {"s3": {"bucket": {"name": "queue"}}},
        {"s3": {"bucket": {"name": "queue"}, "object": []}},
        {"s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3"}}},
        {"s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3", "eTag": "0"}}},
        {"eventTime": "soon", "s3": {"bucket": {"name": "queue"}, "object": {"key": "a.mp3", "eTag": "0"}}},
    ],
)
def test_records_with_something_missing(record: dict[str, Any]) -> None:
    with pytest.raises(BadNotification):
        Upload.from_record(record)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"3", b"song", b"\xff", b'{"s3": {}}'])
def test_malformed_bodies_in_binary_mode(body: bytes) -> None:
    headers, _ = to_http(Upload.from_record(sample("put")).to_event())
    with pytest.raises(BadNotification):
        from_http(headers, body)


@pytest.mark.parametrize(
    "change",
    [
        {"ce-id": None},
        {"ce-id": ""},
        {"ce-source": None},
        {"ce-type": None},
        {"ce-type": TYPE_SEPARATED},
        {"ce-type": "com.amazonaws.s3.ObjectRemoved:Delete"},
        {"ce-time": "yesterday"},
        {"content-type": "text/plain"},
    ],
)
def test_malformed_headers_in_binary_mode(change: dict[str, str | None]) -> None:
    headers, body = to_http(Upload.from_record(sample("put")).to_event())
    changed = {name: value for name, value in (headers | change).items() if value is not None}
    with pytest.raises(BadNotification):
        from_http(changed, body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b"3", b"song", b"\xff", b"[{}]"])
def test_malformed_bodies_in_structured_mode(body: bytes) -> None:
    with pytest.raises(BadNotification):
        from_http({"content-type": "application/cloudevents+json"}, body)


@pytest.mark.parametrize("missing", ["id", "source", "type", "data"])
def test_missing_attributes_in_structured_mode(missing: str) -> None:
    headers, body = structured(Upload.from_record(sample("put")))
    del body[missing]
    with pytest.raises(BadNotification):
        from_http(headers, json.dumps(body).encode())


def test_batches_are_refused() -> None:
    _, body = structured(Upload.from_record(sample("put")))
    with pytest.raises(BadNotification):
        from_http({"content-type": "application/cloudevents-batch+json"}, json.dumps([body]).encode())


def test_a_request_that_is_no_event() -> None:
    with pytest.raises(BadNotification, match="ce-id"):
        from_http({}, b"")


def test_halves_of_characters_in_structured_mode() -> None:
    headers, body = structured(Upload.from_record(sample("put")))
    named = json.loads(json.dumps(body))
    named["data"]["s3"]["object"]["key"] = "\udfff.mp3"
    for changed in (body | {"id": "\ud800"}, named):
        with pytest.raises(BadNotification, match="surrogates"):
            from_http(headers, json.dumps(changed).encode())
