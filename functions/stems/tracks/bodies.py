"""Tracks and jobs as clients see them: plain data, ready for JSON."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from stems.jobs import Job
from stems.record import Asked, Stem, Track
from stems.tracks.estimate import Estimates

# Not url_for: events are made outside of any request.
_TRACKS, _JOBS = "/v1/tracks", "/v1/jobs"


def track(track: Track) -> dict[str, Any]:
    """Return a track record with an address for each object instead of its name."""
    body = {"songhash": track.songhash, "state": "done"} | track.to_dict()
    body["options"] = _options(track.options) if track.options else None
    body["created"] = timestamp(body.pop("created_ms"))
    body["stems"] = [_stem(track, stem) for stem in track.stems]
    body["peaks"] = f"{track_url(track.songhash)}/peaks.json" if track.peaks else None
    body["zip"] = f"{track_url(track.songhash)}/stems.zip"
    return body


def track_url(songhash: str) -> str:
    """Return the address of a track."""
    return f"{_TRACKS}/{songhash}"


def job_url(job: str) -> str:
    """Return the address of a job."""
    return f"{_JOBS}/{job}"


def job(job: Job, estimates: Estimates) -> dict[str, Any]:
    """Return a job; what is not known (yet) is null."""
    waits = job.state == "waiting"
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
        "position": job.position if waits else None,
        "estimate_s": estimates.seconds(job),
        "url": track_url(job.songhash) if job.state == "done" and job.songhash else None,
    }


def timestamp(milliseconds: int) -> str:
    """Return milliseconds since 1970 as an RFC 3339 time in UTC."""
    time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _options(asked: Asked) -> dict[str, Any]:
    model = {"model": asked.model} if asked.model else {}
    return {**model, "stems": list(asked.stems), "format": list(asked.formats)}


def _stem(track: Track, stem: Stem) -> dict[str, Any]:
    body = asdict(stem)
    del body["object"]
    return {**body, "url": f"{track_url(track.songhash)}/{stem.stem}.{stem.format}"}
