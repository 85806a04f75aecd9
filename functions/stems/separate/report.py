"""What ffmpeg says while it decodes, and whether the file was there as a whole."""

import re
import struct
import threading
from pathlib import Path
from typing import IO

from stems.errors import BadAudio

# Writers that cannot seek back (pipes) leave 0xFFFFFFFF (ffmpeg) or about 0x7FFFFFFF (sox, arecord) as size.
_STREAMED_SIZE = 0x7FFF0000
_OGG_PAGE_MAX_BYTES = 65307  # RFC 3533, section 6
# A damaged or gapped file may decode a little short of what it declares and is still worth separating.
_TOLERANCE_S = 0.5
_TOLERANCE = 0.02

_DURATION = re.compile(r"  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_STREAM = re.compile(r"  Stream #0:\d+.*?: (Audio|Video|Subtitle|Data)\b(?!.*\(attached pic\))")
_CUT = re.compile(r"partial file|File ended prematurely")
_REFUSALS = {
    "Format not on whitelist": "not an audio file: its format is no container of sound that is accepted",
    "received signal 24": "decoding it takes more processor time than a song does",  # SIGXCPU: leash.py
    "Cannot allocate memory": "decoding it takes more memory than a song does",
    "Failed to configure output pad": "its channels are for loudspeakers that cannot be mixed down to two",
    "moov atom not found": "the file is truncated: its index (moov atom) is missing",
}
_PREFIX = re.compile(r"^(\[[^]]*\] )*(file:.*?: )?")


class Report(threading.Thread):
    """Reads ffmpeg's stderr to its end, or the child would block on it, and keeps only the facts needed."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._in_output = False
        self._declared_s: float | None = None
        self._estimated = False
        self._kinds: list[str] = []
        self._cut = False
        self._refused = ""
        self._last = ""

    def run(self) -> None:
        """Read until the child closes its stderr."""
        for raw in iter(lambda: self._stream.readline(4096), b""):
            self._take(raw.decode(errors="replace").rstrip())

    def _take(self, line: str) -> None:
        if line.startswith(("Stream mapping:", "Output #0")):
            self._in_output = True
        elif not self._in_output and (found := _DURATION.match(line)):
            hours, minutes, seconds = found.groups()
            self._declared_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif not self._in_output and (found := _STREAM.match(line)):
            self._kinds.append(found[1])
        self._estimated |= "Estimating duration from bitrate" in line
        self._cut |= bool(_CUT.search(line))
        for sign, reason in _REFUSALS.items():
            if sign in line:
                self._refused = reason
        self._last = _PREFIX.sub("", line) or self._last

    @property
    def declared_s(self) -> float | None:
        """Return the duration in seconds that the container states for its audio; None where it only guesses.

        With other streams beside the audio the figure may be theirs, and counts only if ffmpeg saw the file's end cut.
        """
        return None if self._estimated or (len(self._kinds) > 1 and not self._cut) else self._declared_s

    def reason(self, returncode: int) -> str:
        """Return why the child failed, in words for the person who sent the file."""
        if returncode < 0:
            return f"the decoder crashed on the file (signal {-returncode})"
        if self._kinds and "Audio" not in self._kinds:
            return "the file has no audio stream"
        return self._refused or f"not an audio file that ffmpeg can read: {self._last}"


def check_complete(path: Path, report: Report, decoded_s: float) -> None:
    """Raise BadAudio where `path` declares clearly more than the `decoded_s` seconds that were decoded."""
    ogg_cut = _ogg_cut(path)
    if ogg_cut:
        raise BadAudio(f"the file is truncated: it ends within an Ogg page, only {clock(decoded_s)} could be decoded")
    # An Ogg file declares nothing, and ffmpeg's figure is the time of its last page: less is a damaged page within.
    declared_s = _riff_cut_s(path) or (report.declared_s if ogg_cut is None else None)
    if declared_s is not None and declared_s - decoded_s > max(_TOLERANCE_S, _TOLERANCE * declared_s):
        raise BadAudio(
            f"the file is truncated: it declares {clock(declared_s)} but only {clock(decoded_s)} could be decoded"
        )


def _riff_cut_s(path: Path) -> float | None:
    """Return the seconds that a cut WAV file declares, None for any other file.

    ffmpeg replaces the header's figure by one from the file's size. See Microsoft, "Multimedia Programming
    Interface and Data Specifications 1.0" (1991), for the chunks.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        bytes_per_s = 0
        for _ in range(100):  # chunks before the sound; a bound, for a file made of nothing but empty chunks
            chunk = file.read(8)
            if len(chunk) < 8:
                return None
            kind, size = struct.unpack("<4sI", chunk)
            start = file.tell()
            if kind == b"data":
                cut = size < _STREAMED_SIZE and start + size > path.stat().st_size
                return size / bytes_per_s if cut and bytes_per_s else None
            if kind == b"fmt ":
                bytes_per_s = int.from_bytes(file.read(12)[8:], "little")
            file.seek(start + size + size % 2)
    return None


def _ogg_cut(path: Path) -> bool | None:
    """Return whether the Ogg file `path` ends within a page (RFC 3533), None for any other file.

    ffmpeg passes over such an end in silence.
    """
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return None
        file.seek(max(0, path.stat().st_size - _OGG_PAGE_MAX_BYTES))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) < 27 or len(page) < 27 + page[26] + sum(lengths)


def clock(duration_s: float) -> str:
    """Return a duration as a musician reads it, minutes and seconds."""
    return f"{int(duration_s // 60)}:{int(duration_s % 60):02}"
