"""Who may do what: the one place that decides it, before any route is entered. What is not in the table is refused.

Without tokens everybody may do everything, and so the function serves this machine alone, unless it is told otherwise:
`refuse_open` is asked before it listens. What a browser sends by itself (our cookie, a password it was told once)
counts for our own page alone: pages of other sites know no token, or send it as a bearer.
"""

import ipaddress
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

from stems.config import NO_TOKENS, Settings
from stems.errors import ConfigError
from stems.tokens import Role, Token, Tokens
from stems.tracks.rate import Rate

COOKIE = "stems_token"
READ, WRITE, ADMIN = Role
#: Everybody may: nothing here tells of songs.
EVERYBODY = None

#: What each route asks for, by its endpoint.
ROLES: dict[str, Role | None] = {
    "health.live": EVERYBODY,
    "health.is_ready": EVERYBODY,
    "home.root": EVERYBODY,
    "home.static": EVERYBODY,
    "docs.openapi": EVERYBODY,
    "docs.reference": EVERYBODY,
    "session.begin": EVERYBODY,
    "session.end": EVERYBODY,
    "session.show": READ,
    "library.tracks": READ,
    "library.track": READ,
    "library.rerun": WRITE,
    "library.remove": ADMIN,
    "download.stem": READ,
    "download.everything": READ,
    "download.peaks": READ,
    "uploads.form": WRITE,
    "uploads.put": WRITE,
    "line.queue": READ,
    "line.show": READ,
    "line.cancel": WRITE,
    "line.retry": WRITE,
    "events.listen": READ,
    "models.known": READ,
    "classic.separate": WRITE,
    "classic.queue": READ,
    "classic.track": READ,
    "classic.remove": ADMIN,
}
# These read the songs they are sent piece by piece, and have limits of their own.
_STREAMS = {"uploads.put", "classic.separate"}
_BODY_LIMIT = 1 << 16
_SAFE = {"GET", "HEAD", "OPTIONS"}
_CHANGING = {"classic.remove"}  # with GET, too
_JSON = "application/json"
_NO_FILE = ("", NO_TOKENS)
#: Where nobody is asked who he is.
_ANYBODY = Token("anybody", Role.ADMIN, "")


def register(app: Flask, settings: Settings) -> None:
    """Put the gate in front of all routes of the application. Raises ConfigError for a file of no tokens."""
    tokens = None if settings.tokens_file in _NO_FILE else Tokens(Path(settings.tokens_file))
    rate = Rate(settings.rate_per_s)

    @app.before_request
    def gate() -> None:
        endpoint = request.endpoint or ""
        # What asks before it sends has no token; it is told nothing but methods.
        if request.method == "OPTIONS" or endpoint.startswith("health."):
            return
        foreign = _is_foreign()
        token = _token(tokens, foreign)
        client = token.name if tokens and token else request.remote_addr or ""
        if wait_s := rate.wait_s(client):
            raise TooManyRequests(f"more than {settings.rate_per_s:g} requests a second", retry_after=wait_s)
        if not endpoint:
            return  # there is no such route, or not with this method
        if tokens is None:
            _refuse_other_names(settings.hosts)
        if foreign and (request.method not in _SAFE or endpoint in _CHANGING):
            _refuse_other_sites(settings.cors_origins)
        if endpoint not in ROLES:
            raise Forbidden(f"{request.path}: nobody may, as no role is set for it")
        role = ROLES[endpoint]
        if role is not EVERYBODY:
            _refuse_lesser(token, role)
        if request.method == "GET" and endpoint in _CHANGING:
            _refuse_links()
        if endpoint not in _STREAMS:
            request.max_content_length = _BODY_LIMIT
        g.token, g.tokens = token, tokens


def refuse_open(settings: Settings, addresses: Iterable[object]) -> None:
    """Raise ConfigError where people elsewhere could do everything. `addresses`: as gunicorn binds to them."""
    if settings.tokens_file in _NO_FILE and "*" in settings.cors_origins:
        raise ConfigError(
            "STEMS_CORS_ORIGINS=*: without a file of tokens every page that somebody opens could do everything: name "
            "the sites, or a STEMS_TOKENS_FILE"
        )
    for address in addresses:
        if isinstance(address, str):  # the path of a socket
            continue
        # An inherited socket is a number: nobody knows where it listens. No host is all of them.
        host = address[0] if isinstance(address, tuple) else f"the socket {address}"
        if not settings.tokens_file and not _is_loopback(host):
            raise ConfigError(
                f"without STEMS_TOKENS_FILE everybody who reaches {host or 'this machine'} could do everything: name a "
                "file of tokens "
                f"(`stems token new`), or say STEMS_TOKENS_FILE={NO_TOKENS} where something else keeps people out"
            )


def _token(tokens: Tokens | None, foreign: bool) -> Token | None:
    """Return who asks. A header goes before the cookie; of user and password the password is the token."""
    if tokens is None:
        return _ANYBODY
    if bearer := _bearer():
        return tokens.find(bearer)
    if foreign:
        return None
    given = request.authorization
    secret = given.password if given else request.cookies.get(COOKIE)
    return tokens.find(secret) if secret else None


def _bearer() -> str:
    given = request.authorization
    return (given.token or "") if given and given.type == "bearer" else ""


def _refuse_lesser(token: Token | None, role: Role) -> None:
    if token is None:
        challenge = WWWAuthenticate("bearer", {"realm": "stems"})
        raise Unauthorized("a token is needed: Authorization: Bearer …", www_authenticate=challenge)
    if token.role < role:
        raise Forbidden(f"the token {token.name} may {token.role.word}; this needs the role {role.word}")


def _refuse_other_names(names: Collection[str]) -> None:
    """Keep out pages of other sites whose name was made to lead to this machine (DNS rebinding)."""
    host = urlsplit(f"//{request.host}").hostname or ""
    if host not in names and not _is_loopback(host):
        given = request.headers.get("Host", "")
        raise Forbidden(f"Host={given}: without tokens this function answers to localhost and to STEMS_HOSTS alone")


def _is_foreign() -> bool:
    """Tell whether a page of another site asks, or leads here; browsers say so, in one of two ways."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site:
        return site not in {"same-origin", "none"}
    return origin is not None and _place(origin) != request.host


def _refuse_other_sites(allowed: Collection[str]) -> None:
    """Keep pages of other sites from changing things with the rights of whoever looks at them."""
    origin = request.headers.get("Origin")
    if origin not in allowed and "*" not in allowed:
        raise Forbidden(f"Origin={origin}: pages of other sites change nothing here, but those of STEMS_CORS_ORIGINS")


def _refuse_links() -> None:
    """Keep links and images, whose site old browsers and plain HTTP do not tell, from changing things."""
    if not _bearer() and request.mimetype != _JSON:
        raise Forbidden(
            f"{request.method} {request.path} changes things, and so needs what no link has, Authorization: Bearer … "
            f"or Content-Type: {_JSON}; or use DELETE"
        )


def _place(origin: str) -> str:
    """Return host and port of an origin; nothing where it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
