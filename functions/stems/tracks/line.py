"""/v1/queue: what waits, runs and failed."""

from typing import Any

from flask import Blueprint, Response, jsonify

from stems.jobs import Job, Jobs
from stems.tracks import bodies, parameters

_LIMIT = 100


def routes(jobs: Jobs) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("line", __name__)

    @blueprint.get("/v1/queue")
    def queue() -> Response:
        view = jobs.view(parameters.limit(_LIMIT))
        response = jsonify(
            waiting=_part(view.waiting, view.waiting_jobs),
            running=_part(view.running, view.running_jobs),
            failed=_part(view.failed, view.failed_jobs),
        )
        response.cache_control.no_store = True
        return response

    return blueprint


def _part(count: int, jobs: tuple[Job, ...]) -> dict[str, Any]:
    return {"count": count, "jobs": [bodies.job(job) for job in jobs]}
