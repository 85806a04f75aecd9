"""How routes are declared: once, for Flask, for the check of what comes in, and for the OpenAPI document.

flask-smorest is by the people of marshmallow, apispec and webargs, which it joins: several maintainers, ten years of
releases, nothing compiled. It has no types of its own, so this module stands between it and the routes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import flask_smorest
from flask import Flask, request
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import BadRequest, ClientDisconnected, UnsupportedMediaType
from werkzeug.routing import BaseConverter

from stems import __version__
from stems.tracks import schemas
from stems.web import PROBLEM_TYPE

_TEXT = ("text/", "application/json")
_ANY = (414, 431)  # of every request: what gunicorn.conf.py allows

# Of every route: see `gate`.
_ALWAYS = (401, 403, 429)

View = TypeVar("View", bound=Callable[..., Any])

_DESCRIPTION = """Puts songs in line to be separated into stems, tells how they stand, and serves the stems.

Every error is an RFC 9457 problem. Times are RFC 3339 in UTC, addresses relative. A 429 and a 503 carry `Retry-After`.
Where tokens are used, what only looks needs the role read, what puts or cancels songs write, what removes them admin.
"""
SONGHASH = {
    "in": "path",
    "name": "songhash",
    "required": True,
    "description": "SHA-256 of the song's bytes",
    "schema": {"type": "string", "pattern": schemas.SONGHASH},
}
JOB = {
    "in": "path",
    "name": "job",
    "required": True,
    "description": "The job's id",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def header(name: str, description: str) -> dict[str, Any]:
    """Return the description of a request header."""
    return {"in": "header", "name": name, "required": False, "description": description, "schema": {"type": "string"}}


IF_NONE_MATCH = header("If-None-Match", "304 where the ETag is still this one")


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: the schema of its JSON, or the content types of its bytes; the names of its headers."""

    schema: type[Schema] | None = None
    content_types: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    description: str | None = None

    def documented(self) -> Iterator[dict[str, Any]]:
        """Yield this as arguments for flask-smorest, for each content type."""
        headers = {name: {"schema": {"type": "string"}} for name in self.headers} or None
        for kind in self.content_types or (None,):
            schema: Any = {"type": "string", "format": "binary"} if kind and not kind.startswith(_TEXT) else {}
            schema = self.schema if kind is None else schema
            yield {"schema": schema, "content_type": kind, "headers": headers, "description": self.description}


class _Stem(BaseConverter):
    """The last part of a stem's address; what is another route's is none."""

    regex = "(?!rerun$)[^/]+"


class _Parser(FlaskParser):
    """Checks queries and bodies; says what is wrong as everything else does."""

    DEFAULT_VALIDATION_STATUS = 400

    def handle_error(self, error: ValidationError, req: Any, schema: Any, **_: Any) -> Any:
        raise BadRequest(_complaint(error.messages)) from error

    def load_json(self, req: Any, schema: Any) -> Any:
        if not req.is_json:
            raise UnsupportedMediaType(f"Content-Type={req.content_type or ''}: must be application/json")
        try:
            return req.get_json()
        except ClientDisconnected as error:
            if isinstance(error.__context__, BlockingIOError):  # he is there, and sends nothing
                raise error.__context__ from None
            raise BadRequest("the body ended early") from error
        except (BadRequest, RecursionError) as error:
            raise BadRequest("the body is not JSON") from error


class _Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    ARGUMENTS_PARSER = _Parser()


class _Api(flask_smorest.Api):  # type: ignore[misc]
    ERROR_SCHEMA = schemas.Problem
    # Each route names its own errors.
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Leave errors to `stems.web`."""


class Routes:
    """The routes of one subject."""

    def __init__(self, name: str, description: str) -> None:
        self.blueprint: Any = _Blueprint(name, __name__, description=description)

    def add(
        self,
        rule: str,
        *,
        method: str = "GET",
        query: type[Schema] | None = None,
        body: type[Schema] | None = None,
        good: Mapping[int, Answer],
        bad: tuple[int, ...] = (),
        parameters: tuple[Mapping[str, Any], ...] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Callable[[View], View]:
        """Declare the view of a route: it gets what `query` and `body` load, in this order, and the path by name.

        `good` and `bad`: the status codes it answers with; `more`: what else the document is to say of it.
        """

        def decorate(view: View) -> View:
            blueprint, documented = self.blueprint, view
            for status in sorted({*bad, *_ALWAYS}):
                problem = {"schema": schemas.Problem, "content_type": PROBLEM_TYPE}
                documented = blueprint.alt_response(status, description=HTTPStatus(status).phrase, **problem)(
                    documented
                )
            answers = [(status, each) for status, answer in good.items() for each in answer.documented()]
            for number, (status, each) in enumerate(answers):
                add = blueprint.alt_response if number else blueprint.response
                documented = add(status, **each)(documented)
            if body:
                documented = blueprint.arguments(body, location="json")(documented)
            if query:
                documented = blueprint.arguments(query, location="query")(documented)
            if more:
                documented = blueprint.doc(**more)(documented)
            blueprint.route(rule, methods=[method], parameters=list(parameters))(documented)
            return view

        return decorate


def register(app: Flask, *routes: Routes) -> Any:
    """Add the routes to an application; return the OpenAPI document as it grows (apispec.APISpec)."""
    app.config.update(
        API_TITLE="stems",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
            "security": [{"token": []}],
        },
    )
    app.url_map.converters["stem"] = _Stem
    api = _Api(app)
    api.spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    for each in routes:
        api.register_blueprint(each.blueprint)
    return api.spec


def _complaint(messages: Any) -> str:
    """Return the first complaint as a sentence that names the parameter and its value."""
    (location, wrong), *_ = messages.items()
    if not isinstance(wrong, dict):
        return str(wrong[0])
    (name, found), *_ = wrong.items()
    while isinstance(found, dict):
        found = next(iter(found.values()))
    if name == "_schema":
        return f"the body: {found[0]}"
    given: Any = request.args if location == "query" else request.get_json(silent=True) or {}
    value = given.get(name, "") if hasattr(given, "get") else ""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{name}={shown[:200]}: {found[0]}"
