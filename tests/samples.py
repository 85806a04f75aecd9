"""Notifications that MinIO really sent (events/samples), and what a listing said of the same objects."""

import json
from datetime import datetime
from typing import Any

from cloudevents.core.bindings.http import to_structured_event

from stems.contract import (
    Upload,
    records,
)
from tests.programs import CHECKOUT

SAMPLES = CHECKOUT / "events" / "samples"
EVERY = sorted(path.stem for path in SAMPLES.glob("*.json"))
LISTED = sorted(path.stem for path in (SAMPLES / "listing").glob("*.json"))
UPLOADS = [name for name in EVERY if name != "put-tagging"]


def sample(name: str) -> dict[str, Any]:
    """Return the one record of a sample."""
    (record,) = records((SAMPLES / f"{name}.json").read_bytes())
    return dict(record)


def listing(name: str) -> dict[str, Any]:
    """Return what a listing said of the same object."""
    found: dict[str, Any] = json.loads((SAMPLES / "listing" / f"{name}.json").read_bytes())
    return found


def from_listing(name: str) -> Upload:
    """Return the upload as a sweep sees it."""
    seen = listing(name)
    modified = datetime.fromisoformat(seen["last_modified"])
    return Upload.from_listing(seen["bucket"], seen["key"], seen["etag"], seen["size"], modified)


def structured(upload: Upload) -> tuple[dict[str, str], dict[str, Any]]:
    """Return headers and parsed body of the upload's event in structured mode."""
    message = to_structured_event(upload.to_event())
    return dict(message.headers), json.loads(message.body)
