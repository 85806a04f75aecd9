"""What both functions share as Flask applications: problems as RFC 9457 JSON, and the health routes."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from stems import metrics, printable
from stems.errors import PermanentError, StemsError, TransientError

_log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"


class Json(DefaultJSONProvider):
    """JSON in the order it was made, for eyes, too."""

    ensure_ascii = False
    sort_keys = False

    def dumps(self, obj: Any, **options: Any) -> str:
        """Return JSON in which what harms is escaped."""
        return printable.in_json(super().dumps(obj, **options))


def problem(status: int, title: str, detail: str, *, retry_after_s: float | None = None) -> Response:
    """Return an RFC 9457 problem. `title` names the kind of error, `detail` this one."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    response = Response(printable.as_json(body) + "\n", status, content_type=PROBLEM_TYPE)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    return response


def register_problems(app: Flask) -> None:
    """Answer every error of this application with a problem."""

    @app.errorhandler(StemsError)
    def on_stems_error(error: StemsError) -> Response:
        title = type(error).__name__
        if isinstance(error, TransientError):
            return problem(error.status, title, str(error), retry_after_s=error.retry_after_s)
        return problem(error.status if isinstance(error, PermanentError) else 500, title, str(error))

    @app.errorhandler(HTTPException)
    def on_http_error(error: HTTPException) -> Response:
        response = problem(error.code or 500, error.name, error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() not in {"content-type", "content-length"}:
                response.headers[name] = value
        return response

    # The edge of the process: whatever nobody foresaw is logged once and answered as 500.
    @app.errorhandler(Exception)
    def on_any_error(error: Exception) -> Response:
        _log.exception("unforeseen error")
        return problem(500, "Internal Server Error", f"{type(error).__name__}: {error}")


def register_metrics(app: Flask) -> None:
    """Count the requests of this application; probes would drown the rest."""

    @app.before_request
    def begin() -> None:
        g.started = time.monotonic()

    @app.after_request
    def end(response: Response) -> Response:
        # What no route matches has one name, whatever strangers ask for.
        endpoint = request.endpoint or "none"
        if not endpoint.startswith("health."):
            metrics.REQUESTS.labels(endpoint, response.status_code).inc()
            metrics.REQUEST.labels(endpoint).observe(time.monotonic() - g.started)
        return response


def health(ready: Callable[[], None]) -> Blueprint:
    """Return the health routes. `ready` raises a StemsError while the function cannot do its work."""
    routes = Blueprint("health", __name__, url_prefix="/health")

    @routes.get("/live")
    def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get("/ready")
    def is_ready() -> dict[str, str]:
        ready()
        return {"status": "ready"}

    return routes
