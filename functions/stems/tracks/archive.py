"""A ZIP file as a stream: stored, not deflated (sound does not deflate), its length known before its first byte.

Checksums follow the bytes, in data descriptors; names are UTF-8 (flag 11); past 4 GiB the fields of Zip64 are used.
The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

_DESCRIPTOR_AND_UTF8 = 1 << 3 | 1 << 11
_LIMIT = 0xFFFFFFFF
_COUNT_LIMIT = 0xFFFF
_PLAIN, _ZIP64 = 20, 45  # the version needed to extract
_UNIX = 3 << 8
_MODE = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its name and its size in bytes."""

    name: str
    size: int

    @property
    def big(self) -> bool:
        """Tell whether its size needs Zip64."""
        return self.size >= _LIMIT


def length(entries: Sequence[Entry]) -> int:
    """Return the length in bytes of the file that `stream` makes."""
    offset, directory = 0, 0
    for entry in entries:
        directory += len(_central(entry, 0, offset, 0, 0))
        offset += len(_local(entry, 0, 0)) + entry.size + len(_descriptor(entry, 0))
    return offset + directory + len(_end(len(entries), offset, directory))


def stream(entries: Sequence[Entry], read: Callable[[int], Iterable[bytes]], made: datetime) -> Iterator[bytes]:
    """Yield the file; `read` yields the bytes of the entry of a number.

    Raises ValueError where those are more or fewer than its size.
    """
    date = max(made.year - 1980, 0) << 9 | made.month << 5 | made.day
    time = made.hour << 11 | made.minute << 5 | made.second // 2
    offset, directory = 0, []
    for number, entry in enumerate(entries):
        head = _local(entry, time, date)
        yield head
        crc, size = 0, 0
        for chunk in read(number):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            yield chunk
        if size != entry.size:
            raise ValueError(f"{entry.name} has {size} bytes, not {entry.size}")
        tail = _descriptor(entry, crc)
        yield tail
        directory.append(_central(entry, crc, offset, time, date))
        offset += len(head) + size + len(tail)
    yield from directory
    yield _end(len(entries), offset, sum(map(len, directory)))


def _local(entry: Entry, time: int, date: int) -> bytes:
    name = entry.name.encode()
    version, sizes = (_ZIP64, (_LIMIT, _LIMIT)) if entry.big else (_PLAIN, (0, 0))
    # Of a big file the reader must know that its descriptor has 8 bytes for a size.
    extra = struct.pack("<HHQQ", 1, 16, 0, 0) if entry.big else b""
    fields = (version, _DESCRIPTOR_AND_UTF8, 0, time, date, 0, *sizes, len(name), len(extra))
    return b"PK\3\4" + struct.pack("<5H3L2H", *fields) + name + extra


def _descriptor(entry: Entry, crc: int) -> bytes:
    return b"PK\7\x08" + struct.pack("<LQQ" if entry.big else "<LLL", crc, entry.size, entry.size)


def _central(entry: Entry, crc: int, offset: int, time: int, date: int) -> bytes:
    name = entry.name.encode()
    far = offset >= _LIMIT
    values = [entry.size] * 2 * entry.big + [offset] * far
    extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
    size = _LIMIT if entry.big else entry.size
    version = _ZIP64 if values else _PLAIN
    fields = (_UNIX | version, version, _DESCRIPTOR_AND_UTF8, 0, time, date, crc, size, size, len(name), len(extra))
    return (
        b"PK\1\2"
        + struct.pack("<6H3L2H", *fields)
        + struct.pack("<3H2L", 0, 0, 0, _MODE, _LIMIT if far else offset)
        + name
        + extra
    )


def _end(count: int, offset: int, directory: int) -> bytes:
    """Return what follows the directory of `count` entries, `directory` bytes at `offset`."""
    end64 = b""
    if count >= _COUNT_LIMIT or offset >= _LIMIT or directory >= _LIMIT:
        end64 = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, _UNIX | _ZIP64, _ZIP64, 0, 0, count, count, directory, offset)
        end64 += b"PK\6\7" + struct.pack("<LQL", 0, offset + directory, 1)
    count, directory, offset = min(count, _COUNT_LIMIT), min(directory, _LIMIT), min(offset, _LIMIT)
    return end64 + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, count, count, directory, offset, 0)
