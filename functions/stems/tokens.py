"""Bearer tokens of the REST function: who may read, write or remove.

A file has one line for each, `name role SHA-256`; the token itself is nowhere but with its owner. It has 256 random
bits, so that a plain SHA-256 keeps it as safe as a slow one keeps a password.
"""

import hashlib
import hmac
import logging
import re
import secrets
import threading
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from stems.errors import ConfigError

_log = logging.getLogger(__name__)

_PREFIX = "stems_"  # so that scanners for secrets know one when they see it
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Role(IntEnum):
    """What a token allows; each role may do what those before it may."""

    READ = 1
    WRITE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """The role as the file has it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Token:
    """A line of the file. `digest`: the SHA-256 of the token, in hex."""

    name: str
    role: Role
    digest: str

    @property
    def line(self) -> str:
        """The token as the file has it."""
        return f"{self.name} {self.role.word} {self.digest}"


def new(name: str, role: Role) -> tuple[str, Token]:
    """Make a token; return what its owner is given, and what the file is to hold. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the name {name!r} of a token: 1 to 64 letters, digits and . _ @ -")
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, Token(name, role, _digest(secret))


def parse(text: str) -> tuple[Token, ...]:
    """Read the lines of a file; those that are empty or begin with # are left out. Raises ValueError."""
    found: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or not _NAME.fullmatch(words[0]):
            raise ValueError(f"line {number}: must be a name, a role and a SHA-256, with blanks between")
        name, role, digest = words
        if role not in {each.word for each in Role}:
            raise ValueError(f"line {number}: the role {role[:20]!r} must be read, write or admin")
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"line {number}: a SHA-256 has 64 digits of 0-9 a-f")
        if name in found:
            raise ValueError(f"line {number}: {name} stands there already")
        found[name] = Token(name, Role[role.upper()], digest)
    return tuple(found.values())


class Tokens:
    """The tokens of a file, read anew when it changes; safe to share between threads.

    Raises ConfigError where it cannot be read at first. Later a file that is gone or broken is told of in the log,
    once, and what was read before stays.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._seen = self._stamp()
        try:
            self._tokens = parse(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"STEMS_TOKENS_FILE={path}: {error}") from error

    def find(self, secret: str) -> Token | None:
        """Return whose token this is, after the same time for any that is not there."""
        self._refresh()
        digest, found = _digest(secret), None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def _refresh(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        with self._lock:
            if stamp == self._seen:
                return
            try:
                read = self._path.read_bytes() if stamp else None
            except OSError as error:  # there, and not to be read just now: at the next request again
                _log.error("the tokens stay as they were: %s: %s", self._path, error)
                return
            self._seen = stamp
            try:
                if read is None:
                    raise ValueError("the file is gone")
                self._tokens = parse(read.decode())
                _log.info("%d tokens are read from %s", len(self._tokens), self._path)
            except ValueError as error:
                _log.error("the tokens stay as they were: %s: %s", self._path, error)

    def _stamp(self) -> tuple[int, int, int] | None:
        """Return what changes with the file; a Secret of Kubernetes is another file each time."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
