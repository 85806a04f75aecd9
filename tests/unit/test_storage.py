"""What MinIO accepts."""

import re

import pytest

from stems.storage import _tag_value


@pytest.mark.parametrize(
    "reason", ["stems=gesäng: no such stem", "日本語 (0 bytes)", "a\nb; 'c'", "x" * 1000, "", "🎵"]
)
def test_a_reason_becomes_a_tag_that_minio_takes(reason: str) -> None:
    # The pattern of minio-go's pkg/tags, by which the server validates.
    assert re.fullmatch(r"[a-zA-Z0-9\-+._:/@ =]{0,256}", _tag_value(reason))
