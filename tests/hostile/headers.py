"""Where the headers of sound files begin and end, and lies that they can tell, by format."""

import struct
from collections.abc import Callable, Iterator

# What is a box of boxes in an MP4 (ISO 14496-12); `stsd` and `mp4a` hold some behind fields of their own.
_NESTED = {b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"dinf": 0, b"stbl": 0, b"udta": 0, b"ilst": 0, b"stsd": 8}
_NESTED |= {b"meta": 4, b"mp4a": 28, b"dref": 8}
_EBML_NESTED = {0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE1, 0x1F43B675, 0x114D9B74, 0x4DBB, 0x1C53BB6B}
_MOST = 48  # boundaries of a file: what is behind are more of the same
_MP3_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MP3_RATES_HZ = (44100, 48000, 32000, 0)

# Suffix, what it is about, behind which mark, how far, how many bytes, and what they say then, as big-endian numbers.
LIES: tuple[tuple[str, str, bytes, int, int, tuple[int, ...]], ...] = (
    ("flac", "length-of-block", b"fLaC", 5, 3, (0, 33, 0xFFFFFF)),
    ("flac", "least-block", b"fLaC", 8, 2, (0, 1, 0xFFFF)),
    ("flac", "most-block", b"fLaC", 10, 2, (0, 1, 0xFFFF)),
    ("flac", "most-frame", b"fLaC", 15, 3, (1, 0xFFFFFF)),
    ("flac", "rate", b"fLaC", 18, 3, (0x000003, 0x000013, 0xFFFFF3)),
    ("flac", "channels", b"fLaC", 20, 1, (0x41, 0x4F)),
    ("flac", "samples", b"fLaC", 21, 5, (0xF000000000, 0xF000000001, 0xFFFFFFFFFF)),
    ("ogg", "version", b"\1vorbis", 7, 4, (1, 0xFFFFFFFF)),
    ("ogg", "channels", b"\1vorbis", 11, 1, (0, 9, 255)),
    ("ogg", "rate", b"\1vorbis", 12, 4, (0, 0x01000000, 0xFFFFFFFF)),
    ("ogg", "blocks", b"\1vorbis", 28, 1, (0, 0x11, 0xFF)),
    ("ogg", "comments", b"\3vorbis", 7, 4, (0xFFFFFF7F, 0xFFFFFFFF)),
    ("ogg", "granule", b"OggS", 6, 8, (0xFFFFFFFFFFFFFF7F, 0xFFFFFFFFFFFFFFFF)),
    ("ogg", "segments", b"OggS", 26, 1, (0, 255)),
    ("opus", "version", b"OpusHead", 8, 1, (0, 255)),
    ("opus", "channels", b"OpusHead", 9, 1, (0, 255)),
    ("opus", "skipped", b"OpusHead", 10, 2, (0xFFFF,)),
    ("opus", "gain", b"OpusHead", 16, 2, (0xFF7F, 0x0080)),
    ("opus", "mapping", b"OpusHead", 18, 1, (1, 255)),
    ("m4a", "type-size", b"ftyp", -4, 4, (0, 1, 7, 0xFFFFFFFF)),
    ("m4a", "movie-size", b"moov", -4, 4, (0, 1, 7, 0xFFFFFFFF)),
    ("m4a", "sound-size", b"mdat", -4, 4, (0, 1, 7, 0xFFFFFFFF)),
    ("m4a", "timescale", b"mdhd", 16, 4, (0, 1, 0xFFFFFFFF)),
    ("m4a", "duration", b"mdhd", 20, 4, (0, 0xFFFFFFFF)),
    ("m4a", "times", b"stts", 8, 4, (0, 0xFFFFFFFF)),
    ("m4a", "time-samples", b"stts", 12, 4, (0, 0xFFFFFFFF)),
    ("m4a", "time", b"stts", 16, 4, (0, 0x7FFFFFFF)),
    ("m4a", "samples", b"stsz", 12, 4, (0, 0x0FFFFFFF, 0xFFFFFFFF)),
    ("m4a", "sample-size", b"stsz", 8, 4, (1, 0x7FFFFFFF)),
    ("m4a", "in-chunk", b"stsc", 16, 4, (0, 0xFFFFFFFF)),
    ("m4a", "chunks", b"stco", 8, 4, (0, 0xFFFFFFFF)),
    ("m4a", "chunk", b"stco", 12, 4, (0, 0xFFFFFFFF)),
    ("m4a", "channels", b"mp4a\0\0\0\0", 20, 2, (0, 255, 0xFFFF)),
    ("m4a", "rate", b"mp4a\0\0\0\0", 28, 4, (0, 0x00010000, 0xFFFFFFFF)),
    ("m4a", "descriptor", b"esds", 9, 1, (0, 0xFF)),
    ("aiff", "form-size", b"FORM", 4, 4, (0, 1, 0xFFFFFFFF)),
    ("aiff", "common-size", b"COMM", 4, 4, (0, 1, 17, 0xFFFFFFFF)),
    ("aiff", "channels", b"COMM", 8, 2, (0, 1, 255, 0xFFFF)),
    ("aiff", "frames", b"COMM", 10, 4, (0, 1, 0xFFFFFFFF)),
    ("aiff", "bits", b"COMM", 14, 2, (0, 1, 33, 0xFFFF)),
    # A float of 80 bits: 0, 1 Hz, -1 Hz, 2^31 Hz, infinity, NaN.
    ("aiff", "rate", b"COMM", 16, 4, (0, 0x3FFF8000, 0xBFFF8000, 0x401E8000, 0x7FFF8000, 0x7FFFC000)),
    ("aiff", "sound-size", b"SSND", 4, 4, (0, 1, 0xFFFFFFFF)),
    ("aiff", "offset", b"SSND", 8, 4, (1, 0xFFFFFFFF)),
    ("aiff", "block", b"SSND", 12, 4, (1, 0xFFFFFFFF)),
)


def lies(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield files, with their names, whose headers lie; the sums of Ogg's pages are right again."""
    for suffix, about, mark, offset, width, values in LIES:
        at = good[suffix].index(mark) + offset
        for value in values:
            data = bytearray(good[suffix])
            data[at : at + width] = value.to_bytes(width, "big")
            yield f"{about}-{value:x}.{suffix}", _summed(data) if suffix in {"ogg", "opus"} else bytes(data)


def boundaries(suffix: str, data: bytes) -> list[int]:
    """Return where headers and their bodies begin and end in a file, the first ones."""
    found = sorted({at for at in _WALKS[suffix](data) if 0 < at < len(data)})
    return found[:_MOST]


def _summed(data: bytearray) -> bytes:
    """Return Ogg pages with their sums made anew (RFC 3533, 6)."""
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = crc(bytes(data[start:end]), 32, 0x04C11DB7).to_bytes(4, "little")
    return bytes(data)


def crc(data: bytes, width: int, polynomial: int) -> int:
    """Return a check sum, the highest bit first, as FLAC and Ogg have it."""
    value, top, mask = 0, 1 << width - 1, (1 << width) - 1
    for byte in data:
        value ^= byte << width - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
    return value


def _chunks(data: bytes, order: str, size: str, at: int) -> Iterator[int]:
    """Yield the ends of chunks: four letters, a size, a body, which has an even length where sizes have 32 bits."""
    width = struct.calcsize(size)
    while at + 4 + width <= len(data):
        (length,) = struct.unpack_from(order + size, data, at + 4)
        yield from (at, at + 4, at + 4 + width)
        at += 4 + width + length + (length % 2 if width == 4 else 0)
        yield at


def _flac(data: bytes) -> Iterator[int]:
    at, last = 4, False
    while not last:
        last = bool(data[at] & 0x80)
        yield from (at, at + 4)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    yield from (at, at + 2, at + 5)


def _mp3(data: bytes) -> Iterator[int]:
    at = 0
    if data[:3] == b"ID3":
        size = sum(byte << 7 * place for place, byte in zip((3, 2, 1, 0), data[6:10], strict=True))
        yield from (3, 6, 10, 20)
        at = 10 + size
    while data[at : at + 2] in {b"\xff\xfb", b"\xff\xfa"}:
        yield from (at, at + 4, at + 36)
        at += 144_000 * _MP3_KBITS[data[at + 2] >> 4] // _MP3_RATES_HZ[data[at + 2] >> 2 & 3] + (data[at + 2] >> 1 & 1)


def _ogg(data: bytes) -> Iterator[int]:
    at = 0
    while data[at : at + 4] == b"OggS":
        count = data[at + 26]
        yield from (at, at + 4, at + 6, at + 14, at + 22, at + 26, at + 27, at + 27 + count)
        at += 27 + count + sum(data[at + 27 : at + 27 + count])


def _boxes(data: bytes, at: int = 0, end: int | None = None) -> Iterator[int]:
    end = len(data) if end is None else end
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        yield from (at, at + 8)
        if kind in _NESTED:
            yield from _boxes(data, at + 8 + _NESTED[kind], at + length)
        at += max(length, 8)


def _ebml(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        start = at
        width = 9 - data[at].bit_length()
        kind = int.from_bytes(data[at : at + width], "big")
        at += width
        yield from (start, at)
        if at >= len(data) or not data[at]:
            return
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
        at += width
        yield at
        if kind not in _EBML_NESTED:
            at += size


def _wavpack(data: bytes) -> Iterator[int]:
    at = 0
    while data[at : at + 4] == b"wvpk":
        yield from (at, at + 4, at + 8, at + 12, at + 24, at + 32, at + 34)
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")


_WALKS: dict[str, Callable[[bytes], Iterator[int]]] = {
    "wav": lambda data: _chunks(data, "<", "I", 12),
    "aiff": lambda data: _chunks(data, ">", "I", 12),
    "caf": lambda data: _chunks(data, ">", "q", 8),
    "flac": _flac,
    "mp3": _mp3,
    "ogg": _ogg,
    "opus": _ogg,
    "m4a": _boxes,
    "webm": _ebml,
    "wv": _wavpack,
}
