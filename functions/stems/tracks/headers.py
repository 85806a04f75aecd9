"""Headers of all answers: what browsers may do with them, and pages of which other sites may read them (CORS)."""

from collections.abc import Collection

from flask import Flask, Response, request

# For what is no page: nothing in it runs or loads, and no site shows it inside its own. Browsers play sound by itself.
_POLICY = "default-src 'none'; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_READ = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Link, Location, Retry-After"
_SENT = "Authorization, Content-Type, If-Match, If-None-Match, If-Range, Last-Event-ID, Range"
_METHODS = "GET, HEAD, POST, DELETE"
_ASK_AGAIN_S = 3600


def register(app: Flask, origins: Collection[str]) -> None:
    """Add the headers to every answer; `origins`: of the sites whose pages may read, `*` for all."""

    @app.after_request
    def add(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Content-Security-Policy", _POLICY)
        headers.setdefault("Referrer-Policy", "no-referrer")
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if origins:
            response.vary.add("Origin")
            if {request.headers.get("Origin"), "*"} & set(origins):
                _allow(response)
        return response


def _allow(response: Response) -> None:
    # Never with credentials: pages of other sites send tokens in a header, and our cookie stays our own.
    origin = request.headers.get("Origin")
    if not origin:
        return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = _READ
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = _METHODS
        headers["Access-Control-Allow-Headers"] = _SENT
        headers["Access-Control-Max-Age"] = str(_ASK_AGAIN_S)
