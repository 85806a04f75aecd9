"""How long a file that was made says it is: the check that no encoder cut a stem, without decoding it again.

Sources: the MP3 Info tag, http://gabriel.mp3-tech.org/mp3infotag.html; FLAC, RFC 9639; WAV, Microsoft's "Multimedia
Programming Interface and Data Specifications 1.0"; RF64, EBU Tech 3306.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MPEG1 = 3  # the two bits of a frame's version
_RATES_HZ = (44100, 48000, 32000)
# By version: what of the rate is left, and the samples of a frame.
_VERSIONS = {3: (1, 1152), 2: (2, 576), 0: (4, 576)}


@dataclass(frozen=True, slots=True)
class Sound:
    """What a file says it holds: `length` in samples per channel, its encoder's delay and padding not counted."""

    length: int
    sample_rate_hz: int


def read(path: Path) -> Sound:
    """Read the header of an .mp3, .flac or .wav file. Raises ValueError where it is none, or says no length."""
    with path.open("rb") as file, _told(path):
        return {".mp3": _mp3, ".flac": _flac, ".wav": _wav}[path.suffix](file)


def mend_mp3(path: Path, length: int) -> None:
    """Correct the padding in an MP3's header, where ffmpeg has counted too little of it, for a stem of `length`.

    Its muxer goes by the last frame alone. Where the padding fills more than that, in 4 of 100 songs, it says that the
    song is up to 46 samples longer than it is. Leaves a header alone that is wrong in any other way. Raises ValueError
    where it is none.
    """
    with path.open("r+b") as file, _told(path):
        info = _info(file)
        excess = info.length - length
        if not 0 < excess < info.frame_length:
            return
        delay, padding = info.cut >> 12, (info.cut & 0xFFF) + excess
        frame = bytearray(info.frame[: info.tag + 156])
        frame[info.tag + 141 : info.tag + 144] = (delay << 12 | padding).to_bytes(3, "big")
        frame[-2:] = _crc(bytes(frame[:-2])).to_bytes(2, "big")
        file.seek(info.start)
        file.write(frame)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise ValueError where the block finds other bytes than a header of ours has."""
    try:
        yield
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError(f"{path.name} is no {path.suffix} file of ours: {error!r}") from error


@dataclass(frozen=True, slots=True)
class _Info:
    """The first `frame` of an MP3, with its Info (Xing, LAME) tag at `tag`; `start`: where in the file.

    `cut`: delay and padding, of 12 bits each; `length`: without them; `frame_length` in samples.
    """

    start: int
    frame: bytes
    tag: int
    cut: int
    length: int
    frame_length: int
    sample_rate_hz: int


def _mp3(file: BinaryIO) -> Sound:
    info = _info(file)
    return Sound(info.length, info.sample_rate_hz)


def _info(file: BinaryIO) -> _Info:
    head = file.read(10)
    if head[:3] == b"ID3":  # its size in four bytes of 7 bits
        file.seek(10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
    else:
        file.seek(0)
    start = file.tell()
    frame = file.read(200)
    if frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        raise ValueError("there is no frame of MPEG layer 3 where the sound begins")
    version, mono = frame[1] >> 3 & 3, frame[3] >> 6 == 3
    part, samples = _VERSIONS[version]
    tag = 4 + ((17 if mono else 32) if version == _MPEG1 else (9 if mono else 17))
    flags = int.from_bytes(frame[tag + 4 : tag + 8], "big")
    if frame[tag : tag + 4] not in (b"Info", b"Xing") or flags != 0b1111:
        raise ValueError("the first frame holds no complete Info tag")
    frames, size = struct.unpack_from(">II", frame, tag + 8)
    there = file.seek(0, 2) - start
    if size != there:
        raise ValueError(f"its header tells of {size} bytes of sound, {there} are there")
    cut = int.from_bytes(frame[tag + 141 : tag + 144], "big")
    length = frames * samples - (cut >> 12) - (cut & 0xFFF)
    return _Info(start, frame, tag, cut, length, samples, _RATES_HZ[frame[2] >> 2 & 3] // part)


def _crc(data: bytes) -> int:
    """Return the CRC-16 with which the tag ends: polynomial 0x8005, bits reflected, beginning with 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _flac(file: BinaryIO) -> Sound:
    head = file.read(26)
    if len(head) < 26 or head[:4] != b"fLaC" or head[4] & 0x7F:
        raise ValueError("it does not begin with the description of a FLAC stream")
    facts = int.from_bytes(head[18:26], "big")  # rate 20 bits, channels - 1 3, bits - 1 5, samples 36
    return Sound(facts & (1 << 36) - 1, facts >> 44)


def _wav(file: BinaryIO) -> Sound:
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise ValueError("it does not begin as a WAV file does")
    rate_hz = frame_bytes = large = 0
    while True:
        kind, size = struct.unpack("<4sI", file.read(8))
        start = file.tell()
        if kind == b"ds64":
            large = struct.unpack("<8xQ", file.read(16))[0]
        elif kind == b"fmt ":
            rate_hz, frame_bytes = struct.unpack("<4xI4xH", file.read(14))
        elif kind == b"data":
            size = large if size == 0xFFFFFFFF else size
            if not frame_bytes or start + size > file.seek(0, 2):
                raise ValueError(f"its header tells of {size} bytes of sound, which are not there")
            return Sound(size // frame_bytes, rate_hz)
        file.seek(start + size + size % 2)
