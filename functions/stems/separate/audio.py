"""Decoding: any file ffmpeg can read becomes one raw float32 spool file at the model's rate.

A child process decodes, so a hostile file can only kill the child; its output is streamed to the spool, so
memory is flat for any length of song.
"""

import math
import re
import signal
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np
import torch
from numpy.typing import NDArray

from stems.errors import BadAudio, ConfigError, TransientError

_SAMPLE_BYTES = 4
_CHUNK_FRAMES = 1 << 17
# Containers of sound or video that hold everything themselves. Playlists and manifests (hls, concat, dash, imf)
# are left out: as `file` must be an allowed protocol, they could make ffmpeg read other people's files.
_CONTAINERS = (
    "aac,aax,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iamf,iff,ircam,"
    "libopenmpt,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,paf,pvf,qcp,rm,"
    "shn,sox,tak,truehd,tta,voc,vqf,w64,wav,webm,wsd,wtv,wv,xwma"
)
# swresample plays mono at -3 dB on each of two speakers; `pan` gives both the full level, and leaves stereo alone.
_TO_STEREO = "aformat=channel_layouts=stereo|mono,pan=stereo|FL<FL+FC|FR<FR+FC"
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
    "moov atom not found": "the file is truncated: its index (moov atom) is missing",
}
_PREFIX = re.compile(r"^(\[[^]]*\] )*(file:.*?: )?")


@dataclass(frozen=True, slots=True)
class Song:
    """A decoded song: interleaved float32 little-endian frames in the file `path`, and their statistics.

    `length` is in samples per channel; `mean` and `deviation` (unbiased) are those of the channel mean, by which
    `demucs.api.Separator.separate_tensor` normalises.
    """

    path: Path
    length: int
    channels: int
    sample_rate_hz: int
    mean: float
    deviation: float

    @property
    def duration_s(self) -> float:
        """Return the playing time in seconds."""
        return self.length / self.sample_rate_hz

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return the samples [start, stop) as float32 of shape (channels, stop - start)."""
        frame_bytes = self.channels * _SAMPLE_BYTES
        samples = np.fromfile(self.path, "<f4", (stop - start) * self.channels, offset=start * frame_bytes)
        return torch.from_numpy(samples.reshape(-1, self.channels).T.copy())


def ffmpeg() -> str:
    """Return the path of the ffmpeg program: that of `imageio_ffmpeg`, else the one on PATH.

    The former is static, starts in a fifth of the time of Debian's (15 ms against 70), and is the same everywhere; its
    variable IMAGEIO_FFMPEG_EXE names another one. Raises ConfigError where there is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ConfigError("no ffmpeg program found: install ffmpeg, or name one with IMAGEIO_FFMPEG_EXE") from error


def decode(path: Path, spool: Path, *, sample_rate_hz: int, channels: int, max_duration_s: float = 0) -> Song:
    """Decode the first audio stream of `path` to the raw file `spool` and return it as a Song.

    Mono is duplicated at full level, more than two channels are downmixed by ffmpeg's ITU matrix. NaN and infinite
    samples, which float files can hold, become 0: one of them would make the mean, and so every stem, NaN, while
    the rest of the song is good. A `max_duration_s` of 0 means no limit. Raises BadAudio where the file is empty,
    not audio, truncated or longer than `max_duration_s`, and TransientError where the system killed the decoder; what
    is already in `spool` is then left to the caller.
    """
    if path.stat().st_size == 0:
        raise BadAudio("the file is empty (0 bytes)")
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "info"]
    # `file:` keeps names with a colon or a leading dash from being read as a protocol or an option.
    command += ["-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS, "-i", f"file:{path}"]
    command += ["-map", "0:a:0", "-vn", *(("-af", _TO_STEREO) if channels == 2 else ())]
    command += ["-ac", str(channels), "-ar", str(sample_rate_hz), "-f", "f32le", "pipe:1"]
    moments = _Moments()
    limit = max_duration_s * sample_rate_hz
    frame_bytes = channels * _SAMPLE_BYTES
    pipe = subprocess.PIPE
    with (
        spool.open("wb") as out,
        # In a group of its own: a Ctrl-C or stop of the service must not look like a bad file.
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, process_group=0) as child,
    ):
        assert child.stdout is not None
        assert child.stderr is not None
        report = _Report(child.stderr)
        report.start()
        try:
            # A crashed child can end within a frame; its exit status tells of it below.
            while len(data := child.stdout.read(_CHUNK_FRAMES * frame_bytes)) >= frame_bytes:
                frames = np.frombuffer(data, "<f4", len(data) // frame_bytes * channels).reshape(-1, channels)
                if not np.isfinite(frames).all():
                    frames = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
                out.write(frames.tobytes())
                moments.add(frames.mean(1, dtype=np.float64))
                if limit and moments.count > limit:
                    raise BadAudio(f"the song is longer than STEMS_MAX_DURATION_S allows ({_clock(max_duration_s)})")
            child.wait()
        finally:
            child.kill()
            report.join()
    if child.returncode == -signal.SIGKILL:
        raise TransientError("the decoder was killed, as happens where memory runs out")
    if child.returncode != 0:
        raise BadAudio(report.reason(child.returncode))
    if moments.count == 0:
        raise BadAudio("the file holds no sound: 0 samples could be decoded")
    song = Song(spool, moments.count, channels, sample_rate_hz, moments.mean, moments.deviation)
    _check_complete(path, report, song.duration_s)
    return song


class _Moments:
    """Mean and deviation of a stream, merged chunk by chunk (Chan, Golub, LeVeque 1979) to keep float64's accuracy."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in the one-dimensional `values`."""
        count = self.count + len(values)
        mean = float(values.mean())
        delta = mean - self.mean
        self._squares += float(np.square(values - mean).sum()) + delta * delta * self.count * len(values) / count
        self.mean += delta * len(values) / count
        self.count = count

    @property
    def deviation(self) -> float:
        """Return the unbiased deviation; 0 for a single sample."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0


class _Report(threading.Thread):
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


def _check_complete(path: Path, report: _Report, decoded_s: float) -> None:
    """Raise BadAudio where `path` declares clearly more than the `decoded_s` seconds that were decoded."""
    ogg_cut = _ogg_cut(path)
    if ogg_cut:
        raise BadAudio(f"the file is truncated: it ends within an Ogg page, only {_clock(decoded_s)} could be decoded")
    # An Ogg file declares nothing, and ffmpeg's figure is the time of its last page: less is a damaged page within.
    declared_s = _riff_cut_s(path) or (report.declared_s if ogg_cut is None else None)
    if declared_s is not None and declared_s - decoded_s > max(_TOLERANCE_S, _TOLERANCE * declared_s):
        raise BadAudio(
            f"the file is truncated: it declares {_clock(declared_s)} but only {_clock(decoded_s)} could be decoded"
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


def _clock(duration_s: float) -> str:
    """Return a duration as a musician reads it, minutes and seconds."""
    return f"{int(duration_s // 60)}:{int(duration_s % 60):02}"
