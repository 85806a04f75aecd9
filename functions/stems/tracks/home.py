"""`/`: the page for people, the list of routes for programs."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from stems import __version__
from stems.tracks.page import Page

_MORE = {"live": "/health/live", "ready": "/health/ready", "document": "/v1/openapi.json", "reference": "/docs"}


def routes(document: Any, page: Page) -> Blueprint:
    """Return the routes; `document`: the OpenAPI document, which knows the others."""
    home = Blueprint("home", __name__)

    @home.get("/")
    def root() -> Response:
        # Browsers say that they would rather have a page; curl and programs do not.
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            return page.index()
        paths = document.to_dict()["paths"]
        found = {
            f"{method.upper()} {path}": each["summary"] for path in paths for method, each in _operations(paths[path])
        }
        response = jsonify(name="stems", version=__version__, routes={**found, **_MORE})
        response.vary.add("Accept")
        return response

    @home.get("/static/<digest>/<path:name>")
    def static(digest: str, name: str) -> Response:
        return page.file(digest, name)

    return home


def _operations(path: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(method, each) for method, each in path.items() if method != "parameters"]
