"""The page for people: `GET /` for browsers, and its files under `/static/<digest>/`.

The digest of all files is part of their address, so browsers keep them for ever and a new version is seen at once;
the modules import each other by relative addresses. No build step: the files in page/ are what is served.
"""

import hashlib
from pathlib import Path, PurePosixPath

from flask import Response, request
from werkzeug.exceptions import NotFound

from stems.config import Settings

_FOLDER = Path(__file__).with_name("page")
_PLACEHOLDER = b'"static/'
_A_YEAR_S = 365 * 24 * 3600
# Not by the system's table of types, which may lack or bend them.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


class Page:
    """The page's files, read once. `storage_url`: where browsers send songs."""

    def __init__(self, storage_url: str) -> None:
        paths = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
        self._files = {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in paths}
        digest = hashlib.sha256()
        for name, body in self._files.items():
            digest.update(f"{name}\0{len(body)}\0".encode() + body)
        self.digest = digest.hexdigest()[:16]
        index = self._files.pop("index.html")
        self._index = index.replace(_PLACEHOLDER, f'"/static/{self.digest}/'.encode())
        # Nothing inline, nothing from elsewhere; songs go to the storage and nowhere else.
        self._policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                f"connect-src 'self' {storage_url}",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )

    def index(self) -> Response:
        """Answer with the page itself: kept by browsers, but asked for each time."""
        response = Response(self._index, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = self._policy
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.vary.add("Accept")
        response.cache_control.no_cache = True
        response.add_etag()
        response.make_conditional(request)
        return response

    def file(self, digest: str, name: str) -> Response:
        """Answer with one of the files. Raises NotFound, also for those of another version."""
        body = self._files.get(name)
        if body is None or digest != self.digest:
            raise NotFound(f"/static/{digest}/{name}: this version of the page has no such file")
        response = Response(body, content_type=f"{_TYPES[PurePosixPath(name).suffix]}; charset=utf-8")
        response.cache_control.public = True
        response.cache_control.immutable = True
        response.cache_control.max_age = _A_YEAR_S
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.add_etag()
        response.make_conditional(request)
        return response


def storage_url(settings: Settings) -> str:
    """Return the address of MinIO as browsers reach it."""
    return settings.s3_public_endpoint or settings.s3_endpoint
