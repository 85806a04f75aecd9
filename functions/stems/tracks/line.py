"""/v1/queue and /v1/jobs: what waits, runs and failed; cancel and retry."""

from typing import Any

from flask import Response, jsonify

from stems import naming
from stems.contract import Upload
from stems.errors import Ended, ObjectGone, StateUnavailable, StorageUnavailable, UnknownJob
from stems.jobs import Job, Jobs
from stems.storage import Storage
from stems.tracks import asked, bodies, parameters, schemas
from stems.tracks.api import JOB, Answer, Routes
from stems.tracks.estimate import Estimates
from stems.tracks.intake import Intake


def routes(jobs: Jobs, storage: Storage, intake: Intake) -> Routes:
    """Return the routes."""
    line = Routes("line", "Jobs: uploads on their way to stems")

    @line.add(
        "/v1/queue",
        query=asked.QueueQuery,
        good={200: Answer(schemas.Queue)},
        bad=(400, 503),
        more={"summary": "Show what waits, runs and failed"},
    )
    def queue(query: dict[str, Any]) -> Response:
        view, estimates = jobs.view(query["limit"]), Estimates.of(jobs)
        parts = {
            "waiting": (view.waiting, view.waiting_jobs),
            "running": (view.running, view.running_jobs),
            "failed": (view.failed, view.failed_jobs),
        }
        shown = {name: parts[name] for name in parts if query.get("state") in (None, name)}
        response = jsonify(
            {
                name: {"count": n, "jobs": [bodies.job(job, estimates) for job in some]}
                for name, (n, some) in shown.items()
            }
        )
        response.cache_control.no_store = True
        return response

    @line.add(
        "/v1/jobs/<job>",
        good={200: Answer(schemas.Job)},
        bad=(400, 404, 503),
        parameters=(JOB,),
        more={"summary": "Show a job"},
    )
    def show(job: str) -> Response:
        return _answer(jobs, jobs.find(parameters.job(job)), 200)

    @line.add(
        "/v1/jobs/<job>",
        method="DELETE",
        good={202: Answer(schemas.Job)},
        bad=(400, 404, 409, 503),
        parameters=(JOB,),
        more={
            "summary": "Cancel a job",
            "description": "One that waits leaves the line, one that runs stops at the next segment, one that failed "
            "is forgotten. Uploading the song again, or `rerun`, brings it back.",
        },
    )
    def cancel(job: str) -> Response:
        found = jobs.find(parameters.job(job))
        upload = Upload(found.bucket, found.key, found.etag, found.uploaded_ms, {})
        if found.state in {"failed", "dropped"}:
            if found.key:  # the tag first: a sweep that finds `failed`, or nothing, brings it back
                _tag(storage, intake, upload, "dropped", must=True)
            jobs.drop(job)
            return _answer(jobs, jobs.find(job), 202)
        state = call_off(jobs, intake, job, found.key, found.etag)
        if not state:
            raise UnknownJob(f"no job {job}")
        if state != "cancelled":
            raise Ended(f"the job {job} is {state}: only what waits or runs can be cancelled")
        _tag(storage, intake, upload, "cancelled")
        return _answer(jobs, jobs.find(job), 202)

    @line.add(
        "/v1/jobs/<job>/retry",
        method="POST",
        good={202: Answer(schemas.Job)},
        bad=(400, 404, 409, 503),
        parameters=(JOB,),
        more={"summary": "Try a failed job again", "description": "Its attempts are forgotten."},
    )
    def retry(job: str) -> Response:
        found = jobs.find(parameters.job(job))
        if not jobs.retry(job):
            raise Ended(f"the job {job} is {found.state}: only what failed can be tried again")
        return _answer(jobs, _known(jobs, found, "waiting"), 202)

    return line


def call_off(jobs: Jobs, intake: Intake, job: str, key: str, etag: str) -> str | None:
    """Cancel the job of an upload, also one that is announced and not in line yet; return what `Jobs.cancel` does.

    Raises ObjectGone where only the bucket could tell, and has nothing of these bytes.
    """
    state = jobs.cancel(job)
    return jobs.cancel(job, intake.upload(key, etag)) if not state and key else state


def accepted(jobs: Jobs, upload: Upload) -> Response:
    """Answer that an upload has become a job."""
    found = Job.from_hash(upload.job, {"bucket": upload.bucket, "key": upload.key, "etag": upload.etag})
    try:
        jobs.expect(upload)
        response = _answer(jobs, _known(jobs, found, "waiting"), 202)
    except StateUnavailable:  # it is in the bucket: Redis comes back, and it will be separated
        response = jsonify(bodies.job(found, Estimates((), None, 0)))
        response.status_code = 202
    response.headers["Location"] = bodies.job_url(upload.job)
    return response


def _known(jobs: Jobs, job: Job, state: str) -> Job:
    """Return how a job stands now; as it was, in `state`, where it cannot be found on its way from here to there."""
    try:
        return jobs.find(job.id)
    except UnknownJob:
        return Job.from_hash(job.id, {"state": state, "bucket": job.bucket, "key": job.key, "etag": job.etag})


def _answer(jobs: Jobs, job: Job, status: int) -> Response:
    response = jsonify(bodies.job(job, Estimates.of(jobs)))
    response.status_code = status
    response.cache_control.no_store = True
    return response


def _tag(storage: Storage, intake: Intake, upload: Upload, state: str, *, must: bool = False) -> None:
    """Say on the upload how it ended, if it still holds these bytes. What cannot be said now the sweep says."""
    try:
        if upload.bucket == naming.QUEUE_BUCKET:
            storage.tag(intake.upload(upload.key, upload.etag), state)
    except ObjectGone:
        return
    except StorageUnavailable:
        if must:
            raise
