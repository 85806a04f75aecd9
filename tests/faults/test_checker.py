"""The checker finds what it is there to find: it must not be blind where the pipeline is good."""

import json
from typing import Any

from tests.faults import checker, songs
from tests.faults.stack import Stack, wait


def test_what_is_wrong_in_the_buckets_is_seen(stack: Stack) -> None:
    uploader, root = stack.uploader("checked-"), stack.root
    upload = uploader.put("one", songs.make("checked"))
    assert wait(lambda: checker.ended(root, upload), 200)
    songhash, now = upload.song.songhash, [upload]
    assert checker.problems(root, now, now, stack.known) == []

    def with_object(name: str, data: bytes | None) -> list[str]:
        """Return what is found while an object has other bytes, or is gone."""
        before = root.get_object(Bucket="output", Key=name)["Body"].read()
        if data is None:
            root.delete_object(Bucket="output", Key=name)
        else:
            root.put_object(Bucket="output", Key=name, Body=data)
        found = checker.problems(root, now, now, stack.known)
        root.put_object(Bucket="output", Key=name, Body=before)
        return found

    def changed(**values: Any) -> bytes:
        record = json.loads(root.get_object(Bucket="output", Key=f"{songhash}.json")["Body"].read())
        return json.dumps(record | values).encode()

    bass = f"{songhash}-bass.mp3"
    assert any("is None, and" in each for each in with_object(bass, None))
    assert any("in the record" in each for each in with_object(bass, b"other bytes"))
    without_record = with_object(f"{songhash}.json", None)
    assert any("a stem without a record" in each for each in without_record)
    assert any("there is no record" in each for each in without_record)
    assert any("tells of 9" in each for each in with_object(f"{songhash}.json", changed(duration_s=9)))
    assert any("has the stems" in each for each in with_object(f"{songhash}.json", changed(stems=[])))

    def with_new(name: str) -> list[str]:
        """Return what is found while there is one more object."""
        root.put_object(Bucket="output", Key=name, Body=b"more")
        found = checker.problems(root, now, now, stack.known)
        root.delete_object(Bucket="output", Key=name)
        return found

    part = f"parts/{songhash}/{'0' * 16}/part-1-of-3-bass.f32"
    assert with_new(part) == [f"{checker.PART}: {part}, one of 1, of {upload.key}"]
    for strange in ("0" * 64 + "-bass.mp3", f"parts/{'0' * 64}/plan.json", "parts/strange", "strange.json"):
        assert with_new(strange) == [f"an object of no song: {strange}"]
    assert with_new(f"{songhash}-bass.txt") == [f"a strange object: {songhash}-bass.txt"]
    other = songs.Accepted(upload.key, songs.make("another"), upload.at)
    assert any("not ended" in each for each in checker.problems(root, [other], now, stack.known))
    assert checker.problems(root, now, now, stack.known) == []
