"""Whether every accepted upload came to its one right end, by the buckets alone.

It shares nothing with the code under test but names: its own S3 client, its own reading of records, ffmpeg for sound.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Container, Iterable, Mapping
from typing import Any

import imageio_ffmpeg

from tests.faults.songs import Accepted

STEMS = {"drums", "bass", "other", "vocals"}
FINAL = {"done", "failed"}
ORPHAN, PART = "a stem without a record", "a part of a song that has ended"
LATE = (ORPHAN, PART)  # what is removed only when it is old
_STEM = re.compile(r"[0-9a-f]{64}-(drums|bass|other|vocals)\.mp3")
_WHOSE = re.compile(r"(parts/)?([0-9a-f]{64})(.*)")
_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def tags_of(s3: Any, key: str) -> Mapping[str, str]:
    """Return what the tags of an upload say; nothing where it is gone."""
    try:
        found = s3.get_object_tagging(Bucket="queue", Key=key)["TagSet"]
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return {}
        raise
    return {tag["Key"]: tag["Value"] for tag in found}


def ended(s3: Any, upload: Accepted) -> bool:
    """Tell whether the tags say how these very bytes ended."""
    tags = tags_of(s3, upload.key)
    return tags.get("state") in FINAL and tags.get("etag") == upload.song.etag


def problems(s3: Any, now: Iterable[Accepted], ever: Iterable[Accepted], known: Container[str]) -> list[str]:
    """Return all that is wrong: with the uploads there are `now`, with what is left of those that `ever` were, and with
    objects of songs that are not even among the hashes `known`. All songs have ended.
    """
    found, ours = [], {upload.song.songhash: upload for upload in ever}
    names = {each["Key"]: each["ETag"] for page in _pages(s3) for each in page}
    listed = {each["Key"] for page in _pages(s3, "queue") for each in page}
    for upload in now:
        found += [f"{upload.key}: {each}" for each in _upload(s3, upload, names, upload.key in listed)]
    for name in names:
        found += _object(name, names, ours, known)
    for songhash, upload in ours.items():
        if parts := [name for name in names if name.startswith(f"parts/{songhash}/")]:
            found.append(f"{PART}: {parts[0]}, one of {len(parts)}, of {upload.key}")
        if f"{songhash}.json" in names:
            found += [f"{upload.key}: {each}" for each in _result(s3, upload, names)]
    return found


def _object(name: str, names: Container[str], ours: Mapping[str, Accepted], known: Container[str]) -> Iterable[str]:
    whose = _WHOSE.fullmatch(name)
    if not whose or (whose[2] not in ours and whose[2] not in known):
        yield f"an object of no song: {name}"
    elif whose[2] not in ours or whose[1]:
        return
    elif _STEM.fullmatch(name):
        if f"{whose[2]}.json" not in names:
            yield f"{ORPHAN}: {name}, of {ours[whose[2]].key}"
    elif whose[3] not in {".json", "-peaks.json"}:
        yield f"a strange object: {name}"


def _upload(s3: Any, upload: Accepted, names: Mapping[str, str], listed: bool) -> Iterable[str]:
    if not listed:
        yield "the upload itself is gone"
        return
    tags = tags_of(s3, upload.key)
    if tags.get("etag") != upload.song.etag or tags.get("state") not in FINAL:
        yield f"not ended: {tags}"
    elif upload.song.samples == 0:
        if tags["state"] != "failed" or not tags.get("error"):
            yield f"no song, and no dead letter with a reason: {tags}"
    elif tags["state"] != "done":
        yield f"a dead letter: {tags}"
    elif tags.get("songhash") != upload.song.songhash:
        yield f"of another song: {tags}"
    elif f"{upload.song.songhash}.json" not in names:
        yield "done, and there is no record"


def _result(s3: Any, upload: Accepted, names: Mapping[str, str]) -> Iterable[str]:
    songhash = upload.song.songhash
    if upload.song.samples == 0:
        yield "a record of what is no song"
        return
    record = json.loads(_read(s3, f"{songhash}.json"))
    if record["songhash"] != songhash:
        yield f"the record is of {record['songhash']}"
    if abs(record["duration_s"] - upload.song.samples / 44100) > 0.001:
        yield f"the record tells of {record['duration_s']} s"
    if sorted(stem["stem"] for stem in record["stems"]) != sorted(STEMS):
        yield f"the record has the stems {[stem['stem'] for stem in record['stems']]}"
    for stem in record["stems"]:
        name = stem["object"]
        if names.get(name, "").strip('"') != stem["etag"]:
            yield f"{name} is {names.get(name)}, and {stem['etag']} in the record"
            continue
        data = _read(s3, name)
        if len(data) != stem["size"]:
            yield f"{name} has {len(data)} bytes, and {stem['size']} in the record"
        length, sounds = _decode(data)
        if length != upload.song.samples:
            yield f"{name} has {length} samples instead of {upload.song.samples}"
        if not sounds:
            yield f"{name} is silent"
    if not record["peaks"] or record["peaks"] not in names:
        yield "there are no waveforms"


def _decode(data: bytes) -> tuple[int, bool]:
    """Return the samples of an MP3, and whether any is not zero."""
    with tempfile.NamedTemporaryFile(suffix=".mp3") as file:  # from a pipe, the padding would not be cut off
        file.write(data)
        file.flush()
        command = [_FFMPEG, "-v", "error", "-i", file.name, "-f", "s16le", "-ac", "2", "-"]
        sound = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    return len(sound) // 4, any(sound)


def _read(s3: Any, name: str) -> bytes:
    return bytes(s3.get_object(Bucket="output", Key=name)["Body"].read())


def _pages(s3: Any, bucket: str = "output") -> Iterable[list[dict[str, Any]]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        yield page.get("Contents", [])
