"""/v1/tracks: the list of tracks, single ones, their removal, and their separation once more."""

from contextlib import suppress
from typing import Any

from flask import Response, jsonify, request, url_for
from werkzeug.exceptions import BadRequest

from stems.errors import StateUnavailable, UnknownTrack
from stems.index import Index
from stems.jobs import Jobs
from stems.record import Track
from stems.storage import Storage
from stems.tracks import asked, bodies, line, parameters, schemas
from stems.tracks.api import IF_NONE_MATCH, SONGHASH, Answer, Routes
from stems.tracks.estimate import Estimates
from stems.tracks.intake import Intake
from stems.tracks.removal import Removal

_LISTED = (
    "Tracks, newest first; with `q` by name. With another `state` than `done` jobs, the latest first: by when they are "
    "due, were uploaded, or failed. `Link` has the next page."
)

Page = tuple[list[dict[str, Any]], str | None]


def routes(index: Index, storage: Storage, jobs: Jobs, intake: Intake, removal: Removal) -> Routes:
    """Return the routes; the list is read from `index`, single records from `storage`."""
    library = Routes("library", "Tracks: what has been separated")

    def find(songhash: str) -> Track:
        try:
            return storage.track(parameters.songhash(songhash))
        except UnknownTrack:  # removed or expired, perhaps only now
            with suppress(StateUnavailable, UnknownTrack):
                index.forget(songhash)
                index.add(storage.track(songhash))  # where the record was written just now
            raise

    def separated(q: str, query: dict[str, Any]) -> Page:
        given = query["limit"], query.get("cursor"), query.get("since")
        page = index.search(q, *given) if q else index.page(*given)
        index.check(page.tracks)
        return [bodies.track(track) for track in page.tracks], page.cursor

    def unfinished(state: str, query: dict[str, Any]) -> Page:
        found, cursor = jobs.page(state, query["limit"], query.get("cursor"), query.get("since"))
        estimates = Estimates.of(jobs)
        return [bodies.job(job, estimates) for job in found], cursor

    @library.add(
        "/v1/tracks",
        query=asked.ListQuery,
        good={200: Answer(schemas.Tracks, headers=("Link",))},
        bad=(400, 503),
        more={"summary": "List tracks", "description": _LISTED},
    )
    def tracks(query: dict[str, Any]) -> Response:
        limit, state, q = query["limit"], query["state"], query["q"]
        if q and state != "done":
            raise BadRequest(f"q={q}: only what is done can be searched by name; state={state}")
        try:
            shown, cursor = separated(q, query) if state == "done" else unfinished(state, query)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        kept: dict[str, Any] = {name: request.args[name] for name in ("state", "q", "since") if request.args.get(name)}
        following = url_for(".tracks", limit=limit, **kept, cursor=cursor) if cursor else None
        response = jsonify(tracks=shown, next=following)
        if following:
            response.headers["Link"] = f'<{following}>; rel="next"'
        response.cache_control.no_store = True
        return response

    @library.add(
        "/v1/tracks/<songhash>",
        good={200: Answer(schemas.Track, headers=("ETag",)), 304: Answer(description="Unchanged")},
        bad=(400, 404, 503),
        parameters=(SONGHASH, IF_NONE_MATCH),
        more={"summary": "Show a track"},
    )
    def track(songhash: str) -> Response:
        response = jsonify(bodies.track(find(songhash)))
        response.add_etag()
        response.cache_control.no_cache = True
        response.make_conditional(request)
        return response

    @library.add(
        "/v1/tracks/<songhash>",
        method="DELETE",
        query=asked.DeleteQuery,
        good={204: Answer(description="Removed")},
        bad=(400, 404, 409, 503),
        parameters=(SONGHASH,),
        more={
            "summary": "Remove a track",
            "description": "Its stems and its record go, and it is not separated again unless it is uploaded again. "
            "409 while somebody works on the song: `rerun` is cancelled, and ends at the next segment.",
        },
    )
    def remove(query: dict[str, Any], songhash: str) -> Response:
        # Who works on it may be its own `rerun`, which stops at the next segment.
        removal.call_off(find(songhash))
        with removal.held(songhash):
            removal.remove(find(songhash), upload=query["upload"])
        return Response(status=204)

    @library.add(
        "/v1/tracks/<songhash>/rerun",
        method="POST",
        body=asked.Rerun,
        good={202: Answer(schemas.Job, headers=("Location",))},
        bad=(400, 404, 408, 415, 422, 503),
        parameters=(SONGHASH,),
        more={
            "summary": "Separate a track once more",
            "description": "With other stems or formats of the same model, the track gets them beside those it has; "
            "another model replaces them. 404 also where the song itself is not there any more.",
        },
    )
    def rerun(body: dict[str, Any], songhash: str) -> Response:
        metadata = parameters.options(body)
        found = find(songhash)
        return line.accepted(jobs, intake.again(found.key, found.upload_etag, metadata))

    return library
