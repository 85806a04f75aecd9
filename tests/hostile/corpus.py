"""The files: more than 700, always the same. Each has its kind, which the table in tests/README.md counts."""

import io
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.audio import TONE, ffmpeg_bytes
from tests.hostile.headers import boundaries, crc, lies

SEED = 20261122
PLAYLISTS = ("m3u8", "ffconcat", "concat", "asx", "pls", "xspf", "sdp", "mpd", "cue")
TARGETS = ("{secret}", "file://{secret}", "http://127.0.0.1:{port}/song.mp3", "data:audio/wav;base64,UklGRg==",
           "/proc/self/environ")  # fmt: skip
GOOD = {
    "wav": ("-c:a", "pcm_s16le"),
    "flac": ("-c:a", "flac"),
    "mp3": ("-c:a", "libmp3lame"),
    "ogg": ("-c:a", "libvorbis"),
    "opus": ("-c:a", "libopus"),
    "m4a": ("-c:a", "aac"),
    "aiff": (),
    "webm": ("-c:a", "libopus"),
    "wv": ("-c:a", "wavpack"),
    "caf": ("-c:a", "pcm_s24le"),
}
_TAG_BYTES = 6_000_000


@dataclass(frozen=True, slots=True)
class File:
    """One of them. `kind`: for the table; `name`: as it is uploaded."""

    kind: str
    name: str
    data: bytes


def corpus(secret: str, port: int) -> Iterator[File]:
    """Yield all files. `secret`: the path of a song that none of them may reach; `port`: where somebody listens."""
    random = np.random.default_rng(SEED)
    good = _good()
    yield from _nothing(random)
    yield from _truncated(good)
    yield from _lies()
    yield from (File("header that lies", name, data) for name, data in lies(good))
    yield from _samples()
    yield from _huge_tags()
    yield File("12 hours of silence in 70 kB", "silence.flac", silence(12))
    yield from _playlists(secret, port)
    yield from _no_sound()
    yield from _mutated(good, random)


def _good() -> dict[str, bytes]:
    """Return a third of a second of sound in every format."""
    return {suffix: ffmpeg_bytes(f"good.{suffix}", *given, duration_s=0.3) for suffix, given in GOOD.items()}


def _nothing(random: np.random.Generator) -> Iterator[File]:
    yield File("empty", "empty.mp3", b"")
    for number, text in enumerate(
        (b"Dear band,\n" * 99, b"\n", b"%PDF-1.7", "夜に駆ける".encode() * 50, b"<html>" * 9)
    ):
        yield File("text", f"text-{number}.mp3", text)
    for length in (1, 2, 3, 16, 4096, 100_000):
        yield File("zeros", f"zeros-{length}.wav", bytes(length))
        yield File("noise", f"noise-{length}.mp3", random.bytes(length))


def _truncated(good: dict[str, bytes]) -> Iterator[File]:
    """Yield beginnings of good files: up to where each header begins or ends, and into the sound."""
    for suffix, data in good.items():
        for length in sorted({*boundaries(suffix, data), len(data) // 2, len(data) - 1}):
            yield File("truncated", f"cut-{length}.{suffix}", data[:length])


def wav(samples: bytes, **changed: int) -> bytes:
    """Return a WAV whose header says what is `changed`, true or not."""
    said = {"riff": 36 + len(samples), "fmt": 16, "format": 1, "channels": 2, "rate": 44100, "bits": 16}
    said |= {"align": 4, "data": len(samples), **changed}
    rate = said["rate"] * said["align"] % (1 << 32)
    head = struct.pack("<4sI4s4sI", b"RIFF", said["riff"], b"WAVE", b"fmt ", said["fmt"])
    head += struct.pack("<HHIIHH", said["format"], said["channels"], said["rate"], rate, said["align"], said["bits"])
    return head + struct.pack("<4sI", b"data", said["data"]) + samples


def _lies() -> Iterator[File]:
    sound = (np.sin(np.arange(26_000) / 20) * 9000).astype("<i2").tobytes()
    most = 0xFFFFFFFF
    lies: dict[str, tuple[int, ...]] = {
        "channels": (0, 1, 3, 255, 65535),
        "rate": (0, 1, 7, 192_000, 10_000_000, most),
        "bits": (0, 1, 7, 12, 33, 64, 65535),
        "align": (0, 1, 3, 65535),
        "data": (0, 1, 1000, 0x7FFFFFFF, 0xFFFFFFFE, most),
        "riff": (0, 1, most),
        "fmt": (0, 1, 15, 1000, most),
        "format": (0, 2, 3, 6, 17, 0x55, 0xFFFE, 0xFFFF),
    }
    for field, values in lies.items():
        for value in values:
            yield File("header that lies", f"{field}-{value}.wav", wav(sound, **{field: value}))


def _samples() -> Iterator[File]:
    for count in (1, 2, 15, 16, 17):
        yield File("few samples", f"{count}.wav", wav(bytes(4 * count)))
    for number, strange in enumerate((np.nan, np.inf, -np.inf, 1e38, 1e-45)):
        for share in (1.0, 0.001):
            values = np.sin(np.arange(26_000) / 20).astype("<f4")
            values[: int(len(values) * share)] = strange
            header = {"format": 3, "bits": 32, "align": 8}
            yield File("NaN, Inf and the like", f"{number}-{share}.wav", wav(values.tobytes(), **header))


def silence(hours: float) -> bytes:
    """Return a FLAC of silence at 8 kHz, in blocks of 65,535 samples that are 13 bytes each (RFC 9639)."""
    block, rate_hz = 65_535, 8000
    frames = int(hours * 3600 * rate_hz / block)
    packed = rate_hz << 44 | 0 << 41 | 15 << 36 | frames * block
    info = struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    out = [b"fLaC", b"\x80\x00\x00\x22", info]
    for number in range(frames):
        head = b"\xff\xf8\x74\x08" + chr(number).encode("utf-8", "surrogatepass") + struct.pack(">H", block - 1)
        frame = head + bytes([crc(head, 8, 0x07)]) + b"\x00\x00\x00"
        out.append(frame + struct.pack(">H", crc(frame, 16, 0x8005)))
    return b"".join(out)


def _huge_tags() -> Iterator[File]:
    """Yield songs with tags of some megabytes, one long or many: ID3, Vorbis' comments, those of MP4, APE."""
    long = {"comment": "a word of many, " * (_TAG_BYTES // 16)}
    many = {f"word{number}": "one of many, " * 150 for number in range(_TAG_BYTES // 2000)}
    for name, words in (("long", long), ("many", many)):
        for suffix in ("mp3", "flac", "ogg", "opus", "m4a", "wv", "webm"):
            yield File("huge tags", f"{name}.{suffix}", _tagged(suffix, words))


def _tagged(suffix: str, words: dict[str, str]) -> bytes:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(";FFMETADATA1\n" + "".join(f"{key}={value}\n" for key, value in words.items()))
        file.flush()
        sound = ("-f", "lavfi", "-i", TONE.format(0.3), "-f", "ffmetadata", "-i", file.name)
        tags = ("-map", "0:a", "-map_metadata", "1", *(("-movflags", "use_metadata_tags") if suffix == "m4a" else ()))
        return ffmpeg_bytes(f"tagged.{suffix}", *GOOD[suffix], *tags, source=sound)


def _playlist(kind: str, target: str) -> str:
    return {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        "concat": f"file {target}\n",
        "asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
        "pls": f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
        "xspf": f"<playlist><trackList><track><location>{target}</location></track></trackList></playlist>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
        "cue": f'FILE "{target}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    }[kind]


def _playlists(secret: str, port: int) -> Iterator[File]:
    """Yield files that name other files and addresses."""
    for kind in PLAYLISTS:
        for number, target in enumerate(TARGETS):
            text = _playlist(kind, target.format(secret=secret, port=port))
            yield File("playlist", f"{number}.{kind}", text.encode())
    path = secret.encode()
    # A reference movie, and an MP4 whose sound is said to lie in another file (ISO 14496-12, 8.7.2).
    alias = struct.pack(">I4sI4sI", 28 + len(path), b"rdrf", 0, b"url ", len(path) + 8) + path + bytes(8)
    movie = _box(b"moov", _box(b"rmra", _box(b"rmda", alias)))
    yield File("names another file", "reference.mov", _box(b"ftyp", b"qt  \0\0\0\0qt  ") + movie)
    m4a = ffmpeg_bytes("good.m4a", "-c:a", "aac", duration_s=0.3)
    at = m4a.index(b"url \0\0\0\1")
    url = b"file://" + path + b"\0"
    yield File("names another file", "dref.m4a", m4a[: at + 4] + bytes(4) + url + m4a[at + 8 + len(url) :])


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _no_sound() -> Iterator[File]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("song.mp3"), bytes(10_000_000), zipfile.ZIP_DEFLATED)
    yield File("archive", "album.zip", packed.getvalue())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/cron.d/x"))
    yield File("archive", "album.tar", packed.getvalue())
    picture = ("-f", "lavfi", "-i", "color=red:s=64x64:d=0.2")
    for suffix in ("png", "jpg", "gif", "bmp", "webp"):
        yield File("image", f"cover.{suffix}", ffmpeg_bytes(f"p.{suffix}", "-frames:v", "1", source=picture))
    for suffix in ("mp4", "mkv", "avi"):
        yield File("video without sound", f"mute.{suffix}", ffmpeg_bytes(f"v.{suffix}", source=picture))
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 1 << 30, 1 << 30, 8, 6, 0, 0, 0) + bytes(4)
    yield File("image", "huge.png", huge)


def _mutated(good: dict[str, bytes], random: np.random.Generator) -> Iterator[File]:
    """Yield good files in which some bytes are others, moved, gone or doubled."""
    for suffix, data in good.items():
        for number in range(12):
            changed = bytearray(data)
            # Half of them in the first bytes, where headers are.
            within = min(len(changed), 200) if number % 2 else len(changed)
            for _ in range(int(random.integers(1, 20))):
                at = int(random.integers(0, within))
                match number % 4:
                    case 0 | 1:
                        changed[at] = int(random.integers(0, 256))
                    case 2:
                        del changed[at : at + int(random.integers(1, 30))]
                        changed += b"\0" * max(0, within - len(changed))
                    case _:
                        changed[at:at] = changed[at : at + int(random.integers(1, 30))]
            yield File("mutated", f"mutated-{number}.{suffix}", bytes(changed))
