"""`/`: the page for people, the list of routes for programs."""

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request, send_from_directory

from stems import __version__

_STATIC = Path(__file__).parent / "static"
_PAGE = "index.html"
_MORE = {"live": "/health/live", "ready": "/health/ready", "document": "/v1/openapi.json", "reference": "/docs"}


def routes(document: Any) -> Blueprint:
    """Return the routes; `document`: the OpenAPI document, which knows the others."""
    home = Blueprint("home", __name__)

    @home.get("/")
    def root() -> Response:
        wants_page = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
        if wants_page and (_STATIC / _PAGE).is_file():
            response = send_from_directory(_STATIC, _PAGE)
        else:
            paths = document.to_dict()["paths"]
            found = {
                f"{method.upper()} {path}": each["summary"]
                for path in paths
                for method, each in _operations(paths[path])
            }
            response = jsonify(name="stems", version=__version__, routes={**found, **_MORE})
        response.vary.add("Accept")
        return response

    @home.get("/static/<path:name>")
    def static(name: str) -> Response:
        return send_from_directory(_STATIC, name)

    return home


def _operations(path: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(method, each) for method, each in path.items() if method != "parameters"]
