"""The request header `Range` (RFC 9110, section 14), as far as it is honoured: one range of bytes."""

import re

from werkzeug.exceptions import RequestedRangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


def requested(header: str | None, size: int) -> tuple[int, int] | None:
    """Return offset and length (> 0) of the part asked for, or None for all `size` bytes.

    A header that is malformed or asks for several ranges is left unheeded, which the RFC allows.
    Raises RequestedRangeNotSatisfiable when not one byte asked for exists.
    """
    match = _ONE_RANGE.fullmatch(header or "")
    first, last = match.groups() if match else ("", "")
    if not first and not last:
        return None
    if not first:  # the last bytes; all of them, where more are asked for than there are
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        if last and int(last) < start:
            return None
        length = (min(int(last) + 1, size) if last else size) - start
    if length <= 0:
        raise RequestedRangeNotSatisfiable(size)
    return start, length
