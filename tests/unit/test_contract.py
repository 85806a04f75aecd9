"""The contract, read against notifications that MinIO really sent (events/samples)."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from stems import naming
from stems.contract import (
    EVENT_NAMES,
    TYPE_SEPARATED,
    Upload,
    from_http,
    is_new_object,
    records,
    reply,
    to_http,
)
from stems.errors import BadNotification
from stems.reply import Reply
from tests.samples import EVERY, LISTED, SAMPLES, UPLOADS, from_listing, listing, sample, structured


def test_there_are_samples_of_everything_subscribed_to() -> None:
    assert {sample(name)["eventName"] for name in UPLOADS} == set(EVENT_NAMES)
    assert len(LISTED) >= 17


@pytest.mark.parametrize("name", LISTED)
def test_notification_and_listing_name_the_same_upload(name: str) -> None:
    upload, seen = Upload.from_record(sample(name)), listing(name)
    assert (upload.bucket, upload.key, upload.etag) == ("queue", seen["key"], seen["etag"])
    assert upload.record["s3"]["object"].get("size", 0) == seen["size"]
    assert upload.record["s3"]["object"]["userMetadata"] == seen["metadata"]


@pytest.mark.parametrize("name", LISTED)
def test_uploaded_ms_is_the_modification_time_of_the_listing(name: str) -> None:
    modified = datetime.fromisoformat(listing(name)["last_modified"])
    modified_ms = (modified - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert Upload.from_record(sample(name)).uploaded_ms == modified_ms
    assert from_listing(name).uploaded_ms == modified_ms


@pytest.mark.parametrize("name", LISTED)
def test_a_sweep_comes_to_the_same_job(name: str) -> None:
    swept = from_listing(name)
    assert swept.job == Upload.from_record(sample(name)).job
    assert Upload.from_record(swept.record) == swept
    assert is_new_object(swept.record)


def test_keys_are_decoded() -> None:
    keys = {name: Upload.from_record(sample(name)).key for name in EVERY if name.startswith("key-")}
    assert keys["key-spaces"] == "two  spaces and one .mp3"
    assert keys["key-plus"] == "drum+bass.mp3"
    assert keys["key-percent"] == "100% real%20name %2F.mp3"
    assert keys["key-folders"] == "artist/album (live)/01 song.mp3"
    assert keys["key-leading-dash"] == "-rf.mp3"
    assert keys["key-unicode"] == "Björk – Jóga ラジオ.flac"
    assert keys["key-decomposed"] == "Bjo\u0308rk.mp3"
    assert keys["key-emoji"] == "🥁🎸.mp3"
    assert keys["key-reserved"] == "a&b=c?d#e;f:g@h,i!'\"<>[]{}|^~`$*.mp3"


def test_a_job_is_bucket_key_and_etag() -> None:
    put, overwrite = Upload.from_record(sample("put")), Upload.from_record(sample("overwrite"))
    assert put.key == overwrite.key
    assert put.job != overwrite.job
    assert put.job != Upload.from_record(sample("post")).job
    assert put.job == naming.job_id("queue", "song.mp3", put.etag)


def test_new_metadata_on_the_same_bytes_is_the_same_job_put_later() -> None:
    before, after = Upload.from_record(sample("overwrite")), Upload.from_record(sample("copy-same-key"))
    assert before.job == after.job
    assert before.uploaded_ms < after.uploaded_ms
    assert before.to_event().get_id() != after.to_event().get_id()


def test_the_namespace_format_is_read_too() -> None:
    assert sample("namespace") == sample("post")


def test_a_payload_may_hold_several_records() -> None:
    one = json.loads((SAMPLES / "put.json").read_bytes())
    other = json.loads((SAMPLES / "post.json").read_bytes())
    assert [record["s3"]["object"]["key"] for record in records(json.dumps(one + other).encode())] == [
        "song.mp3",
        "posted.mp3",
    ]


@pytest.mark.parametrize("name", UPLOADS)
def test_uploads_are_new_objects(name: str) -> None:
    assert is_new_object(sample(name))


def test_tags_are_no_new_object() -> None:
    assert sample("put-tagging")["eventName"] == "s3:ObjectCreated:PutTagging"
    assert not is_new_object(sample("put-tagging"))


def test_another_bucket_has_no_new_objects_for_us() -> None:
    record = sample("put")
    record["s3"] = {**record["s3"], "bucket": {"name": "output"}}
    assert not is_new_object(record)


def test_event_attributes() -> None:
    record = sample("key-unicode")
    answer = record["responseElements"]
    event = Upload.from_record(record).to_event()
    assert event.get_id() == f"{answer['x-amz-request-id']}.{answer['x-amz-id-2']}"
    assert event.get_source() == "minio:s3..queue"
    assert event.get_type() == "com.amazonaws.s3.ObjectCreated:Put"
    assert event.get_subject() == "Björk – Jóga ラジオ.flac"
    assert event.get_datacontenttype() == "application/json"
    time = event.get_time()
    assert time is not None
    assert abs(time - datetime.fromisoformat(record["eventTime"])).total_seconds() < 1
    assert event.get_data() == record


def test_the_source_names_the_region() -> None:
    event = Upload.from_record({**sample("put"), "awsRegion": "eu-central-1"}).to_event()
    assert event.get_source() == "minio:s3.eu-central-1.queue"


@pytest.mark.parametrize("name", UPLOADS)
def test_binary_mode_there_and_back(name: str) -> None:
    upload = Upload.from_record(sample(name))
    headers, body = to_http(upload.to_event())
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert json.loads(body) == upload.record
    assert from_http(headers, body)[0] == upload
    assert from_http({key.title(): value for key, value in headers.items()}, body)[0] == upload
    assert from_http_event(HTTPMessage(headers, body)).get_subject() == upload.key


@pytest.mark.parametrize("name", UPLOADS)
def test_structured_mode_there_and_back(name: str) -> None:
    upload = Upload.from_record(sample(name))
    headers, body = structured(upload)
    message = json.dumps(body).encode()
    assert from_http(headers, message)[0] == upload
    assert from_http({"Content-Type": "application/cloudevents+json; charset=UTF-8"}, message)[0] == upload


def test_event_ids_are_stable_and_differ() -> None:
    ids = {name: Upload.from_record(sample(name)).to_event().get_id() for name in UPLOADS}
    assert ids == {name: Upload.from_record(sample(name)).to_event().get_id() for name in UPLOADS}
    assert ids.pop("namespace") == ids["post"]
    assert len(set(ids.values())) == len(ids)


def test_event_ids_of_a_sweep_are_stable_and_differ() -> None:
    ids = {name: from_listing(name).to_event().get_id() for name in LISTED}
    assert ids == {name: from_listing(name).to_event().get_id() for name in LISTED}
    # Other bytes, or the same ones put again, are another event.
    assert len({ids["put"], ids["overwrite"], ids["copy-same-key"]}) == 3


def test_making_an_event_leaves_the_upload_alone() -> None:
    record = sample("put")
    upload = Upload.from_record(record)
    assert to_http(upload.to_event()) == to_http(upload.to_event())
    assert record == sample("put")
    with pytest.raises(dataclasses.FrozenInstanceError):
        upload.key = "other"  # type: ignore[misc]


def test_a_record_without_sequencer_is_dated_by_its_event() -> None:
    record = sample("put")
    del record["s3"]["object"]["sequencer"]
    assert Upload.from_record({**record, "eventTime": "2026-01-02T03:04:05.678Z"}).uploaded_ms == 1767323045678


def test_a_reply_tells_of_the_upload() -> None:
    upload = Upload.from_record(sample("put"))
    event = reply(TYPE_SEPARATED, upload, {"songhash": "0" * 64})
    assert event.get_type() == TYPE_SEPARATED
    assert event.get_subject() == "song.mp3"
    assert event.get_id() == f"{upload.job}.{upload.uploaded_ms}"
    time = event.get_time()
    assert time is not None
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert json.loads(to_http(event)[1]) == {"songhash": "0" * 64}


def test_a_reply_keeps_its_bytes_whatever_they_are() -> None:
    headers = {"Ce-Id": "1", "Ce-Source": "x", "Ce-Type": "y", "Ce-SpecVersion": "1.0", "Date": "today"}
    found = Reply.from_http("d", "a.mp3", headers, b"\xff\x00\xc3\xa4")
    assert found is not None
    assert Reply.from_record(found.job, json.loads(json.dumps(found.record))) == found
    assert found.to_http() == ({name.lower(): headers[name] for name in list(headers)[:4]}, b"\xff\x00\xc3\xa4")
    assert (found.place.event_id, found.place.span_id) == ("1", "")


@pytest.mark.parametrize("record", [{}, [], {"key": "a", "headers": 5, "body": ""}, {"key": "a", "headers": {}}])
def test_a_damaged_reply_is_told_of(record: Any) -> None:
    with pytest.raises(BadNotification):
        Reply.from_record("r1", record)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"X-Amz-Meta-Callback": "http://x", "content-type": "audio/mpeg"}, True),
        ({"X-Amz-Meta-Callback": "http://x", "n": 5, "m": None}, True),
        (None, False),
        ([], False),
        ("X-Amz-Meta-Callback", False),
    ],
)
def test_metadata_that_came_with_a_notification(told: object, expected: bool) -> None:
    record = sample("metadata")
    record["s3"]["object"]["userMetadata"] = told
    metadata = Upload.from_record(record).metadata
    assert ("X-Amz-Meta-Callback" in metadata) is expected
    assert all(isinstance(value, str) for value in metadata.values())


def test_a_swept_upload_has_the_metadata_that_its_notification_had() -> None:
    told = Upload.from_record(sample("metadata")).metadata
    modified = datetime(2026, 11, 22, tzinfo=UTC)
    swept = Upload.from_listing("queue", "karaoke.mp3", "e", 2048, modified, listing("metadata")["metadata"])
    assert swept.metadata == told
    assert told["X-Amz-Meta-Stems"] == "vocals"
