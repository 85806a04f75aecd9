"""Tracks and jobs as clients see them: plain data, ready for JSON."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flask import url_for

from stems.jobs import Job
from stems.record import Stem, Track


def track(track: Track) -> dict[str, Any]:
    """Return a track record with an address for each stem instead of the name of its object."""
    body = track.to_dict()
    body["created"] = timestamp(body.pop("created_ms"))
    body["stems"] = [_stem(track, stem) for stem in track.stems]
    return body


def job(job: Job) -> dict[str, Any]:
    """Return a job; what is not known (yet) is null."""
    return {
        "id": job.id,
        "name": job.name,
        "key": job.key or None,
        "state": job.state,
        "progress": job.progress,
        "attempts": job.attempts,
        "error": job.error or None,
        "songhash": job.songhash or None,
        "uploaded": timestamp(job.uploaded_ms) if job.uploaded_ms else None,
    }


def timestamp(milliseconds: int) -> str:
    """Return milliseconds since 1970 as an RFC 3339 time in UTC."""
    time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stem(track: Track, stem: Stem) -> dict[str, Any]:
    url = url_for("download.stem", songhash=track.songhash, name=f"{stem.stem}.{stem.format}")
    body = asdict(stem)
    del body["object"]
    return {**body, "url": url}
