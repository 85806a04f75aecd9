"""/v1/tracks: the list of tracks, newest first, and single track records."""

from contextlib import suppress

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import BadRequest

from stems.errors import StateUnavailable, UnknownTrack
from stems.index import Index
from stems.storage import Storage
from stems.tracks import bodies, parameters

_LIMIT = 50


def routes(index: Index, storage: Storage) -> Blueprint:
    """Return the routes; the list is read from `index`, single records from `storage`."""
    blueprint = Blueprint("library", __name__, url_prefix="/v1/tracks")

    @blueprint.get("")
    def tracks() -> Response:
        limit, cursor = parameters.limit(_LIMIT), request.args.get("cursor")
        try:
            page = index.page(limit, cursor)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        following = url_for(".tracks", limit=limit, cursor=page.cursor) if page.cursor else None
        response = jsonify(tracks=[bodies.track(track) for track in page.tracks], next=following)
        if following:
            response.headers["Link"] = f'<{following}>; rel="next"'
        response.cache_control.no_store = True
        return response

    @blueprint.get("/<songhash>")
    def track(songhash: str) -> Response:
        try:
            found = storage.track(parameters.songhash(songhash))
        except UnknownTrack:  # removed or expired, perhaps only now
            with suppress(StateUnavailable, UnknownTrack):
                index.forget(songhash)
                index.add(storage.track(songhash))  # where the record was written just now
            raise
        response = jsonify(bodies.track(found))
        response.add_etag()
        response.cache_control.no_cache = True
        response.make_conditional(request)
        return response

    return blueprint
