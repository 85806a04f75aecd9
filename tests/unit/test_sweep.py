"""Which uploads a sweep enters: those whose tags do not say how they ended."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from stems.contract import Upload
from stems_relay.sweep import GRACE_MS, is_open

NOW = 1_790_000_000_000
UPLOAD = Upload.from_listing("queue", "a.mp3", "etag", 1, datetime.fromtimestamp((NOW - GRACE_MS - 1) / 1000, UTC))


@pytest.mark.parametrize(
    ("tags", "is_it"),
    [
        ({}, True),
        ({"album": "of a person"}, True),
        ({"state": "separating", "etag": "etag"}, True),
        ({"state": "unheard of", "etag": "etag"}, True),
        ({"state": "done", "etag": "etag"}, False),
        ({"state": "failed", "etag": "etag"}, False),
        ({"state": "removed", "etag": "etag"}, False),
        ({"state": "done"}, False),
        ({"state": "done", "etag": "of other bytes"}, True),
        ({"state": "failed", "etag": "of other bytes"}, True),
        ({"state": "removed", "etag": "of other bytes"}, True),
        ({"etag": "etag"}, True),
    ],
)
def test_open_until_its_tags_say_how_these_bytes_ended(tags: Mapping[str, str], is_it: bool) -> None:
    assert is_open(UPLOAD, tags, NOW) is is_it


def test_a_young_upload_still_has_its_notification_on_the_way() -> None:
    assert is_open(UPLOAD, {}, UPLOAD.uploaded_ms + GRACE_MS + 1)
    assert not is_open(UPLOAD, {}, UPLOAD.uploaded_ms + GRACE_MS)
    assert not is_open(UPLOAD, {}, UPLOAD.uploaded_ms - 3_600_000), "a clock that is behind only delays"
