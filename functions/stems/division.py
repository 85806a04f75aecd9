"""How a long song travels in parts: the answer that divides it, and the events that ask for its parts.

The song's own event is answered with `dev.stems.song.divided`: what is to be done before it is delivered again. Whoever
gets it then looks at what is there, so that nothing but the bucket needs to know how far the song is.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from stems import contract, naming, trace
from stems.contract import TYPE_PART, Upload, event_of, place_of, to_http, traced
from stems.errors import BadNotification

_PLAN = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"part-\d{1,6}-of-\d{1,6}|join-[a-z0-9_]{1,32}")
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part to be made of a song: `name` within the plan `plan`, which lies in the bucket `output`."""

    upload: Upload
    songhash: str
    plan: str
    name: str

    @property
    def job(self) -> str:
        """The identity of this work in line."""
        return naming.part_id(self.upload.job, self.plan, self.name)

    @property
    def key(self) -> str:
        """What people know the song by."""
        return self.upload.key

    @property
    def place(self) -> trace.Place:
        """Where the song's trace begins."""
        return self.upload.place

    @property
    def record(self) -> Mapping[str, Any]:
        """The part as plain data, ready for JSON."""
        about = {"songhash": self.songhash, "plan": self.plan, "name": self.name}
        return {"upload": dict(self.upload.record), **about}

    @classmethod
    def from_record(cls, record: Any) -> "Wanted":
        """Read what `record` wrote. Raises BadNotification."""
        try:
            upload = Upload.from_record(record["upload"])
            songhash, plan, name = record["songhash"], record["plan"], record["name"]
            right = naming.is_songhash(songhash) and _PLAN.fullmatch(plan) and _NAME.fullmatch(name)
        except (KeyError, TypeError) as error:
            raise BadNotification(f"not a part of a song: {error!r}") from error
        if not right:
            raise BadNotification(f"not a part of a song: {songhash!r}, {plan!r}, {name!r}")
        return cls(upload, songhash, plan, name)

    def to_event(self) -> CloudEvent:
        """Return the CloudEvent that asks for this part."""
        return CloudEvent(
            {
                "id": f"{self.place.event_id}.{self.plan}.{self.name}",
                "source": f"/stems/{self.upload.bucket}",
                "type": TYPE_PART,
                "subject": self.upload.key,
                "time": datetime.fromtimestamp(self.upload.uploaded_ms / 1000, UTC),
                "datacontenttype": "application/json",
                **traced(),
            },
            dict(self.record),
        )

    def to_http(self) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the event in binary mode."""
        return to_http(self.to_event())


@dataclass(frozen=True, slots=True)
class Next:
    """One part of an answer. `place_s`: its place in line, in seconds behind the song's upload."""

    name: str
    place_s: float


@dataclass(frozen=True, slots=True)
class Divided:
    """The answer to a song that goes on in parts: those to make before it is delivered again.

    `count`: of how many such parts these are, for people; `begin`, `end`: the song's progress before and after them.
    """

    songhash: str
    plan: str
    parts: tuple[Next, ...]
    count: int
    begin: float
    end: float

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain data, ready for JSON."""
        parts = [{"name": each.name, "place_s": each.place_s} for each in self.parts]
        about = {"songhash": self.songhash, "plan": self.plan, "count": self.count}
        return {**about, "begin": self.begin, "end": self.end, "parts": parts}

    @classmethod
    def from_json(cls, text: bytes) -> "Divided":
        """Read an answer. Raises BadNotification."""
        try:
            data: Any = json.loads(text)
            parts = tuple(Next(str(each["name"]), float(each["place_s"])) for each in data["parts"])
            numbers = (int(data["count"]), float(data["begin"]), float(data["end"]))
            found = cls(str(data["songhash"]), str(data["plan"]), parts, *numbers)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadNotification(f"not a divided song: {error!r} in {text[:200]!r}") from error
        names = [each.name for each in parts]
        good = naming.is_songhash(found.songhash) and _PLAN.fullmatch(found.plan) and 0 < len(names) <= _MOST
        if not good or not all(map(_NAME.fullmatch, names)) or not 0 <= found.begin <= found.end <= 1:
            raise BadNotification(f"not a divided song: {text[:200]!r}")
        if not all(0 <= each.place_s < float("inf") for each in parts) or len(set(names)) < len(names):
            raise BadNotification(f"not a divided song: {text[:200]!r}")
        return found

    def wanted(self, upload: Upload) -> list[Wanted]:
        """Return the parts as what is to be delivered."""
        return [Wanted(upload, self.songhash, self.plan, each.name) for each in self.parts]


def from_http(headers: Mapping[str, str], body: bytes) -> tuple[Upload | Wanted, trace.Place]:
    """Read what is asked for, and where its trace stands, from a CloudEvent. Raises BadNotification."""
    event = event_of(headers, body)
    if event.get_type() != TYPE_PART:
        return contract.from_http(headers, body)
    wanted = Wanted.from_record(event.get_data())
    return wanted, place_of(event, wanted.upload, headers)
