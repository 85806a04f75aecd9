"""/v1/session: the page's own token, in a cookie, since downloads and events of a browser carry no header."""

from typing import Any

from flask import Response, g, jsonify, request
from marshmallow import Schema, validate
from werkzeug.exceptions import Unauthorized

from stems.tracks import schemas
from stems.tracks.api import Answer, Routes
from stems.tracks.gate import COOKIE


class Session(Schema):
    """Who asks, and what he may."""

    name = schemas.text("Of the token; `anybody` where none is needed")
    role = schemas.text("read, write or admin")


class Given(Schema):
    """A token."""

    token = schemas.text("As `stems token new` printed it", validate=validate.Length(max=200))


def routes() -> Routes:
    """Return the routes."""
    session = Routes("session", "Who asks")

    @session.add("/v1/session", good={200: Answer(Session)}, more={"summary": "Tell whose token this is"})
    def show() -> Response:
        response = jsonify(name=g.token.name, role=g.token.role.word)
        response.cache_control.no_store = True
        return response

    @session.add(
        "/v1/session",
        method="POST",
        body=Given,
        good={204: Answer(headers=("Set-Cookie",))},
        bad=(400, 415),
        more={
            "summary": "Keep a token in the browser",
            "description": "In a cookie that scripts cannot read and other sites cannot use, until the browser ends. "
            "Programs send `Authorization: Bearer` instead.",
            "security": [],
        },
    )
    def begin(body: dict[str, Any]) -> Response:
        if g.tokens and g.tokens.find(body["token"]) is None:
            raise Unauthorized("this token is not known here")
        return _with_cookie(body["token"] if g.tokens else "")

    @session.add(
        "/v1/session",
        method="DELETE",
        good={204: Answer(headers=("Set-Cookie",))},
        more={"summary": "Forget the token", "security": []},
    )
    def end() -> Response:
        return _with_cookie("")

    return session


def _with_cookie(token: str) -> Response:
    response = Response(status=204)
    options: dict[str, Any] = {"httponly": True, "samesite": "Strict", "secure": _is_secure()}
    response.set_cookie(COOKIE, token, max_age=None if token else 0, **options)
    return response


def _is_secure() -> bool:
    """Tell whether the browser came by HTTPS, by the word of what is in front of us."""
    return request.is_secure or request.headers.get("X-Forwarded-Proto", "") == "https"
