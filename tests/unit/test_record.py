"""Track records: what is written can be read, also what an earlier or a later version wrote."""

import json
from typing import Any

import pytest

from stems.record import Asked, ModelInfo, Stem, Track

STEM = Stem("vocals", "mp3", "0-vocals.mp3", 100, "e", 0.0)
TRACK = Track(
    songhash="0" * 64,
    name="song.mp3",
    bucket="queue",
    key="song.mp3",
    upload_etag="e",
    duration_s=30.0,
    sample_rate_hz=44100,
    channels=2,
    model=ModelInfo("demo", "1" * 64, "exact", "trained on synthetic music"),
    created_ms=1,
    stems=(STEM,),
    stages_s={"separate": 1.5},
    options=Asked("demo", ("vocals",), ("mp3", "flac-16")),
)


def changed(**model: Any) -> bytes:
    data = json.loads(TRACK.to_json())
    data["model"] = {name: value for name, value in (data["model"] | model).items() if value is not None}
    return json.dumps(data).encode()


def test_a_record_is_read_as_it_was_written() -> None:
    assert Track.from_json(TRACK.to_json()) == TRACK


def test_a_record_of_0_1_0_is_read() -> None:
    data = json.loads(changed(untrained=False, note=None))
    del data["options"]
    old = Track.from_json(json.dumps(data))
    assert (old.model, old.options) == (ModelInfo("demo", "1" * 64, "exact"), None)


def test_what_a_later_version_adds_is_left_out() -> None:
    assert Track.from_json(changed(colour="red")) == TRACK


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"model": 1}', changed(name=None)])
def test_anything_else_is_no_record(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a track record"):
        Track.from_json(text)
