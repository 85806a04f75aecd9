"""A JSON object one of whose strings is a whole file in base64, read in small pieces: memory does not grow with it.

What is around that string is kept, the string itself left out, and the rest read by the JSON parser; so what is JSON is
decided by no one else. Only in that string line ends may stand as they are: the `base64` of a shell makes them.
https://www.rfc-editor.org/rfc/rfc8259 (JSON), https://www.rfc-editor.org/rfc/rfc4648 (base64).
"""

import binascii
import json
import re
from typing import Any, Protocol

_CHUNK = 64 * 1024
_REST_LIMIT = 64 * 1024  # bytes of everything but the file
# Of a string, as much as is there.
_TEXT = re.compile(rb'(?:[^"\\]++|\\(?:[^u]|u[0-9A-Fa-f]{4}))++', re.DOTALL)
_ESCAPE_LENGTH = 6
_BLANKS = b" \t\r\n"


class Malformed(ValueError):
    """The body is not what it should be; `str(error)` says what is wrong with it."""


class TooLong(ValueError):
    """The file, or what is around it, is longer than allowed."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Target(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Base64:
    """Decodes base64 as it comes; blanks and line ends in it count for nothing."""

    def __init__(self, field: str, target: _Target, limit: int) -> None:
        self._field, self._target, self._limit = field, target, limit
        self._left = b""
        self._padded = False
        self.size = 0

    def feed(self, data: bytes) -> None:
        data = self._left + data.translate(None, _BLANKS)
        whole = len(data) // 4 * 4
        self._left, data = data[whole:], data[:whole]
        if data and self._padded:
            raise Malformed(f"{self._field}: not base64: there is more after its end")
        self._padded = self._padded or data.endswith(b"=")
        try:
            decoded = binascii.a2b_base64(data, strict_mode=True) if data else b""
        except binascii.Error as error:
            raise Malformed(f"{self._field}: not base64: {error}") from None
        self.size += len(decoded)
        if self.size > self._limit:
            raise TooLong(f"{self._field}: at most {self._limit} bytes")
        self._target.write(decoded)

    def end(self) -> None:
        if self._left:
            raise Malformed(f"{self._field}: not base64: its length is no multiple of 4")


class _Reader:
    """Takes a JSON object in pieces. `rest` is all of it but the contents of the string `field` at its top."""

    def __init__(self, field: str, decoder: _Base64) -> None:
        self._field, self._decoder = field, decoder
        self.rest = bytearray()
        self.found = False
        self._inside = False  # the string that is the file
        self._depth = 0
        self._string = -1  # where in `rest` the string begins that is being read
        self._escaped = False
        self._key: bytes | None = None  # the last string at the top that may be a key
        self._value = False  # a value of the top comes next

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return the end of it that can be read only with the next one."""
        at = 0
        while at < len(data):
            if not self._inside:
                at = self._around(data, at)
                continue
            if match := _TEXT.match(data, at):
                self._decoder.feed(self._plain(match[0]))
            elif data[at : at + 1] == b'"':
                self._inside = False
                self.rest += b'"'
                self._decoder.end()
                at += 1
                continue
            elif len(data) - at < _ESCAPE_LENGTH:
                return data[at:]
            else:
                raise Malformed(f"not JSON: {data[at : at + _ESCAPE_LENGTH]!r} in {self._field}")
            at = match.end()
        return b""

    def _plain(self, text: bytes) -> bytes:
        """Return what stands in a piece of a string, without escapes."""
        if b"\\" not in text:
            return text
        try:
            # Not strict: line ends may stand as they are. What is not ASCII is no base64, whatever it is read as.
            return str(json.loads(f'"{text.decode("latin-1")}"', strict=False)).encode(errors="replace")
        except ValueError as error:
            raise Malformed(f"not JSON: {error} in {self._field}") from None

    def _around(self, data: bytes, at: int) -> int:
        """Take bytes up to the beginning of the file or the end of the piece; return where it went on from."""
        while at < len(data):
            character = data[at : at + 1]
            at += 1
            self.rest += character
            if len(self.rest) > _REST_LIMIT:
                raise TooLong(f"more than {_REST_LIMIT} bytes beside {self._field}")
            if self._string >= 0:
                self._in_string(character)
            elif character == b'"':
                if self._value and self._is_field():
                    self._begin()
                    return at
                self._string = len(self.rest) - 1
            else:
                self._structure(character)
        return at

    def _begin(self) -> None:
        if self.found:
            raise Malformed(f"{self._field} is given twice")
        self.found = self._inside = True
        self._value = False

    def _in_string(self, character: bytes) -> None:
        if self._escaped:
            self._escaped = False
        elif character == b"\\":
            self._escaped = True
        elif character == b'"':
            if self._depth == 1 and not self._value:
                self._key = bytes(self.rest[self._string :])
            self._string = -1

    def _structure(self, character: bytes) -> None:
        if character in (b"{", b"["):
            self._depth += 1
            self._value = False
        elif character in (b"}", b"]"):
            self._depth -= 1
        elif self._depth == 1 and character == b":":
            self._value = True
        elif self._depth == 1 and character == b",":
            self._value, self._key = False, None

    def _is_field(self) -> bool:
        """Tell whether the value that comes next is that of the field; JSON may spell a key in several ways."""
        try:
            return self._depth == 1 and json.loads(self._key or b"0") == self._field
        except ValueError:
            return False  # the parser will complain of it


def read(source: _Source, field: str, target: _Target, limit: int) -> tuple[dict[str, Any], int]:
    """Read a JSON object from `source`, and write what its string `field` holds in base64 to `target`.

    Returns the object, with an empty string in that place, and the size of the file in bytes, from 1 to `limit`.
    Raises Malformed or TooLong.
    """
    decoder = _Base64(field, target, limit)
    reader, left = _Reader(field, decoder), b""
    # Blanks in the file count for nothing, but somebody has to read them.
    allowance = 2 * limit + 2 * _REST_LIMIT
    while data := source.read(_CHUNK):
        allowance -= len(data)
        if allowance < 0:
            raise TooLong(f"{field}: at most {limit} bytes")
        left = reader.feed(left + data)
    try:
        found = json.loads(bytes(reader.rest) + left)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Malformed(f"not a JSON object but {type(found).__name__}")
    if field not in found:
        raise Malformed(f"{field} is missing")
    if not reader.found:
        raise Malformed(f"{field}: must be a string")
    if not decoder.size:
        raise Malformed(f"{field}: empty")
    return found, decoder.size
