"""What a function answered, on its way to others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stems import naming, trace
from stems.contract import is_structured, short
from stems.errors import BadNotification


@dataclass(frozen=True, slots=True)
class Reply:
    """The event with which a function answered, as it came in HTTP: it is passed on without being read.

    `job`: its id in the line; `key`: the subject, for people.
    """

    job: str
    key: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def from_http(cls, delivery: str, key: str, headers: Mapping[str, str], body: bytes) -> "Reply | None":
        """Read the answer to a delivery of the upload `key`; None where it is no CloudEvent."""
        kept = {name.lower(): value for name, value in headers.items()}
        kept = {name: value for name, value in kept.items() if name.startswith("ce-") or name == "content-type"}
        binary = {"ce-id", "ce-source", "ce-specversion", "ce-type"} <= kept.keys()
        return cls(naming.reply_id(delivery), key, kept, body) if binary or is_structured(kept) else None

    @classmethod
    def from_record(cls, job: str, record: Mapping[str, Any]) -> "Reply":
        """Read what `record` wrote. Raises BadNotification."""
        try:
            body = str(record["body"]).encode(errors="surrogateescape")
            return cls(job, str(record["key"]), dict(record["headers"]), body)
        except (KeyError, TypeError, ValueError) as error:
            raise BadNotification(f"not a reply: {error!r} in {short(record)}") from error

    @property
    def record(self) -> Mapping[str, Any]:
        """The reply as plain data, ready for JSON; the body may be anything."""
        body = self.body.decode(errors="surrogateescape")
        return {"key": self.key, "headers": dict(self.headers), "body": body}

    @property
    def place(self) -> trace.Place:
        """Where the event's trace stands."""
        event_id, source, carried = self._attributes()
        return trace.place(event_id, source, carried)

    def _attributes(self) -> tuple[str, str, str | None]:
        """Return id, source and traceparent."""
        found: Mapping[str, Any] = {name.removeprefix("ce-"): value for name, value in self.headers.items()}
        if is_structured(self.headers):
            try:
                read = json.loads(self.body)
            except (ValueError, RecursionError):
                read = None
            found = read if isinstance(read, dict) else {}
        return str(found.get("id", self.job)), str(found.get("source", "")), str(found.get("traceparent", ""))

    def to_http(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the event."""
        return dict(self.headers), self.body
