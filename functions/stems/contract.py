"""How an upload travels: MinIO's notification -> Upload -> CloudEvent -> Upload.

The mapping follows the CloudEvents adapter for AWS S3
(https://github.com/cloudevents/spec/blob/main/cloudevents/adapters/aws-s3.md); events/README.md shows examples.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

from stems import naming, trace
from stems.errors import BadNotification

# MinIO's `--event put` would also tell of tags, retention and legal hold: no new bytes in those.
EVENT_NAMES = tuple(f"s3:ObjectCreated:{kind}" for kind in ("Put", "Post", "Copy", "CompleteMultipartUpload"))
_TYPE_PREFIX = "com.amazonaws.s3."
TYPE_SEPARATED = "dev.stems.track.separated"
TYPE_GONE = "dev.stems.upload.gone"
TYPE_FAILED = "dev.stems.song.failed"
TYPE_DIVIDED = "dev.stems.song.divided"
TYPE_PART = "dev.stems.part.wanted"
TYPE_PART_DONE = "dev.stems.part.done"

# By this the function `separate` knows the relay (STEMS_SINK_SECRET).
SECRET_HEADER = "stems-secret"


_LAST_MS = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Upload:
    """One put of an object. `uploaded_ms` is the object's modification time, milliseconds since 1970."""

    bucket: str
    key: str
    etag: str
    uploaded_ms: int
    record: Mapping[str, Any]

    @property
    def job(self) -> str:
        """The identity of the work: the same bytes under the same name."""
        return naming.job_id(self.bucket, self.key, self.etag)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Upload":
        """Read an S3 event record; its key is form-encoded. Raises BadNotification."""
        try:
            s3 = record["s3"]
            bucket, encoded, etag = s3["bucket"]["name"], s3["object"]["key"], s3["object"]["eTag"]
            sequencer = s3["object"].get("sequencer")
            # MinIO's sequencer is the modification time in nanoseconds, in hex.
            uploaded_ms = int(sequencer, 16) // 1_000_000 if sequencer else _milliseconds(record["eventTime"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadNotification(f"not an S3 event record: {error!r} in {short(record)}") from error
        named = all(isinstance(text, str) and text for text in (bucket, encoded, etag))
        if not named or not 0 <= uploaded_ms <= _LAST_MS:
            raise BadNotification(f"not an S3 event record: no bucket, key, etag or time in {short(record)}")
        return cls(bucket, unquote_plus(encoded), etag, uploaded_ms, record)

    @classmethod
    def from_listing(
        cls, bucket: str, key: str, etag: str, size: int, modified: datetime, metadata: Mapping[str, str] | None = None
    ) -> "Upload":
        """Make the upload, and the record that MinIO would have sent, of an object seen in a listing."""
        uploaded_ms = int(modified.timestamp() * 1000)
        record = {
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "awsRegion": "",
            "eventTime": _iso(uploaded_ms),
            "eventName": EVENT_NAMES[0],
            # The id of the CloudEvent is made of these: the same upload gets the same id in every sweep.
            "responseElements": {"x-amz-request-id": "sweep", "x-amz-id-2": f"{etag}-{uploaded_ms}"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                "object": {
                    "key": quote_plus(key),
                    "size": size,
                    "eTag": etag,
                    "userMetadata": dict(metadata or {}),
                    "sequencer": f"{uploaded_ms * 1_000_000:X}",
                },
            },
        }
        return cls(bucket, key, etag, uploaded_ms, record)

    @property
    def metadata(self) -> dict[str, str]:
        """The user metadata that came with the notification; what is not of that form is left out."""
        try:
            found = self.record["s3"]["object"]["userMetadata"].items()
        except (AttributeError, KeyError, TypeError):
            return {}
        return {name: value for name, value in found if isinstance(value, str)}

    @property
    def place(self) -> trace.Place:
        """The beginning of the event's trace. A record that is no more than formally one still has a place."""
        answer = self.record.get("responseElements")
        answer = answer if isinstance(answer, dict) else {}
        event_id = f"{answer.get('x-amz-request-id', self.job)}.{answer.get('x-amz-id-2', self.uploaded_ms)}"
        return trace.place(event_id, self.bucket)

    def to_event(self) -> CloudEvent:
        """Return the CloudEvent that tells of this upload; its data is the S3 record, unchanged."""
        record = self.record
        source = ".".join((record.get("eventSource") or "minio:s3", record.get("awsRegion") or "", self.bucket))
        return CloudEvent(
            {
                "id": self.place.event_id,
                "source": source,
                "type": _type(str(record.get("eventName", ""))),
                "subject": self.key,
                "time": datetime.fromtimestamp(self.uploaded_ms / 1000, UTC),
                "datacontenttype": "application/json",
                **traced(),
            },
            dict(record),
        )

    def to_http(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the event in binary mode."""
        return to_http(self.to_event())


def _type(event_name: str) -> str:
    """Return the CloudEvent type of an S3 event; MinIO's names have an `s3:` that those of AWS have not."""
    return _TYPE_PREFIX + event_name.removeprefix("s3:")


_TYPES = frozenset(map(_type, EVENT_NAMES))


def records(payload: bytes) -> list[Mapping[str, Any]]:
    """Return every S3 record of a payload of MinIO's Redis target (`access` or `namespace` format).

    Raises BadNotification when it is not JSON or not of that shape.
    """
    try:
        data = json.loads(payload)
        entries = data if isinstance(data, list) else [data]
        found = [record for entry in entries for record in (entry["Event"] if "Event" in entry else entry["Records"])]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadNotification(f"not a bucket notification: {error!r} in {payload[:200]!r}") from error
    if not found or not all(isinstance(record, dict) for record in found):
        raise BadNotification(f"a bucket notification without records: {payload[:200]!r}")
    return found


def is_new_object(record: Mapping[str, Any]) -> bool:
    """Tell whether a record speaks of new bytes in the bucket `queue`, not of tags, retention or a removal."""
    s3 = record.get("s3")
    bucket = s3.get("bucket") if isinstance(s3, dict) else None
    name = bucket.get("name") if isinstance(bucket, dict) else None
    # A record that names no bucket at all is left to `Upload.from_record` to complain of.
    return record.get("eventName") in EVENT_NAMES and name in (naming.QUEUE_BUCKET, None) and not _is_folder(record)


def _is_folder(record: Mapping[str, Any]) -> bool:
    """Tell whether this is the empty object `folder/` by which consoles and file managers make a folder."""
    try:
        return unquote_plus(record["s3"]["object"]["key"]).endswith("/") and not record["s3"]["object"].get("size")
    except (AttributeError, KeyError, TypeError):
        return False


def to_http(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the event in binary mode."""
    message = to_binary_event(event)
    return dict(message.headers), bytes(message.body)


def event_of(headers: Mapping[str, str], body: bytes) -> BaseCloudEvent:
    """Read a CloudEvent in binary or structured mode, of any type. Raises BadNotification."""
    headers = {name.lower(): value for name, value in headers.items()}
    structured = is_structured(headers)
    # The SDK invents an id where there is none, which would make every delivery a new event.
    if not structured and "ce-id" not in headers:
        raise BadNotification("not a CloudEvent: no ce-id header and no application/cloudevents+json body")
    try:
        event = from_http_event(HTTPMessage(headers, body))
        # JSON can name halves of characters, which neither a name nor a header holds.
        json.dumps([event.get_id(), event.get_type(), event.get_data()], ensure_ascii=False).encode()
        if structured and not json.loads(body).get("id"):
            raise ValueError("no id")
    # The SDK raises JSONDecodeError, AttributeError, ValueError and its own errors, depending on the mistake.
    except Exception as error:
        raise BadNotification(f"not a CloudEvent: {error}") from error
    return event


def from_http(headers: Mapping[str, str], body: bytes) -> tuple[Upload, trace.Place]:
    """Read the upload, and where its trace stands, from a CloudEvent. Raises BadNotification."""
    event = event_of(headers, body)
    data, kind = event.get_data(), event.get_type()
    if not isinstance(data, dict) or kind not in _TYPES:
        raise BadNotification(f"an event of type {kind!r} with {short(data)}: not an upload")
    upload = Upload.from_record(data)
    return upload, place_of(event, upload, headers)


def place_of(event: BaseCloudEvent, upload: Upload, headers: Mapping[str, str]) -> trace.Place:
    """Return where an event about `upload` stands in its trace; `headers`: those of the request that brought it."""
    carried = event.get_extension("traceparent")
    asked = next((value for name, value in headers.items() if name.lower() == "traceparent"), None)
    # Whoever made the event names it; where nobody says which trace it is of, the upload does, as with the relay.
    return trace.place(event.get_id(), upload.bucket, carried if isinstance(carried, str) else None, asked)


def is_structured(headers: Mapping[str, str]) -> bool:
    """Tell whether the whole event is in the body; names of headers in lower case."""
    return headers.get("content-type", "").lower().startswith("application/cloudevents+json")


def traced() -> dict[str, str]:
    """Return the attribute of the distributed tracing extension, within a span."""
    place = trace.here()
    return {"traceparent": place.traceparent} if place and place.traceparent else {}


def reply(kind: str, upload: Upload, data: Mapping[str, Any]) -> CloudEvent:
    """Return the CloudEvent with which a function answers: `kind` is one of the dev.stems types."""
    return CloudEvent(
        {
            "id": f"{upload.job}.{upload.uploaded_ms}",
            "source": f"/stems/{upload.bucket}",
            "type": kind,
            "subject": upload.key,
            "time": datetime.now(UTC),
            "datacontenttype": "application/json",
            **traced(),
        },
        dict(data),
    )


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def _iso(milliseconds: int) -> str:
    stamp = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def short(data: object) -> str:
    """Return the beginning of some data as text, for people."""
    text = json.dumps(data, default=str)
    return text if len(text) <= 200 else text[:200] + "…"
