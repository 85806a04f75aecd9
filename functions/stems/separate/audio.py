"""Decoding: any file ffmpeg can read becomes one raw float32 spool file at the model's rate.

A child process decodes, so a hostile file can only kill the child; its output is streamed to the spool, so
memory is flat for any length of song.
"""

import math
import signal
import subprocess
import tempfile
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from stems.errors import BadAudio, ConfigError, TransientError
from stems.separate import leash
from stems.separate.channels import arguments
from stems.separate.report import Report, check_complete, clock

if TYPE_CHECKING:
    import torch

_CHUNK_FRAMES = 1 << 17
# Above full scale. Files of floats on the scale of 16 bit integers, which some programs write, reach 90 dB; a song that
# comes down by 100, as all of it does for one such sample, is below the last of 16 bits.
_LOUDEST_DB = 100
# Containers of sound or video that hold everything themselves. Playlists and manifests (hls, concat, dash, imf)
# are left out: as `file` must be an allowed protocol, they could make ffmpeg read other people's files.
_CONTAINERS = (
    "aac,aax,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iamf,iff,ircam,"
    "libopenmpt,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,paf,pvf,qcp,rm,"
    "shn,sox,tak,truehd,tta,voc,vqf,w64,wav,webm,wsd,wtv,wv,xwma"
)
_LOOK_S = 20.0


class Writer(Protocol):
    """Where raw sound goes."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


def frame_bytes(channels: int) -> int:
    """Return the bytes of one sample of so many channels, as raw files and streams hold it: float32."""
    return 4 * channels


@dataclass(frozen=True, slots=True)
class Song:
    """A decoded song: interleaved float32 little-endian frames in the file `path`, and their statistics.

    `length` is in samples per channel; `mean` and `deviation` (unbiased) are those of the channel mean, by which
    `demucs.api.Separator.separate_tensor` normalises. `offset`: the sample with which the file begins, where it holds
    no more than an excerpt.
    """

    path: Path
    length: int
    channels: int
    sample_rate_hz: int
    mean: float
    deviation: float
    offset: int = 0

    @property
    def duration_s(self) -> float:
        """Return the playing time in seconds."""
        return self.length / self.sample_rate_hz

    def read(self, start: int, stop: int) -> "torch.Tensor":
        """Return the samples [start, stop) as float32 of shape (channels, stop - start)."""
        import torch  # here: the command line decodes while torch, the half of its start, is being imported

        samples = np.fromfile(
            self.path, "<f4", (stop - start) * self.channels, offset=(start - self.offset) * frame_bytes(self.channels)
        )
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


def input_arguments(path: Path) -> list[str]:
    """Return how ffmpeg is told to read a file that somebody sent."""
    # `file:` keeps names with a colon or a leading dash from being read as a protocol or an option.
    return ["-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS, "-i", f"file:{path}"]


def decode(
    path: Path,
    spool: Path,
    *,
    sample_rate_hz: int,
    channels: int,
    max_duration_s: float = 0,
    stop: threading.Event | None = None,
    into: Writer | None = None,
) -> Song:
    """Decode the first audio stream of `path` to the raw file `spool` and return it as a Song.

    Mono is duplicated at full level, up to 8 channels are downmixed by ffmpeg's ITU matrix. NaN and infinite samples,
    which float files can hold, become 0: one of them would make the mean, and so every stem, NaN, while
    the rest of the song is good. A `max_duration_s` of 0 means no limit. Raises BadAudio where the file is empty,
    not audio, truncated, absurdly loud or longer than `max_duration_s`, and TransientError where the system killed the
    decoder; what is already in `spool` is then left to the caller. Another thread ends it early by `stop`:
    CancelledError. `into` gets the sound in place of `spool`.
    """
    if path.stat().st_size == 0:
        raise BadAudio("the file is empty (0 bytes)")
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "info", *input_arguments(path)]
    command += ["-map", "0:a:0", "-vn", *arguments(_described(path, spool.parent), channels)]
    command += ["-ar", str(sample_rate_hz), "-f", "f32le", "pipe:1"]
    command = leash.leashed(command, leash.decoding_s(max_duration_s))
    moments = _Moments()
    limit = max_duration_s * sample_rate_hz
    step = frame_bytes(channels)
    pipe = subprocess.PIPE
    with (
        nullcontext(into) if into else spool.open("wb") as out,
        # In a group of its own: a Ctrl-C or stop of the service must not look like a bad file.
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, process_group=0, env=leash.environ()
        ) as child,
    ):
        assert child.stdout is not None
        assert child.stderr is not None
        report = Report(child.stderr)
        report.start()
        try:
            # A crashed child can end within a frame; its exit status tells of it below.
            while len(data := child.stdout.read(_CHUNK_FRAMES * step)) >= step:
                if len(data) % step:
                    data = data[: len(data) // step * step]
                frames = np.frombuffer(data, "<f4").reshape(-1, channels)
                if not moments.add(frames):
                    frames = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
                    moments.add(frames)
                    data = frames.tobytes()
                _check_level(frames, moments.count - len(frames), sample_rate_hz)
                out.write(data)
                if stop and stop.is_set():
                    raise CancelledError
                if limit and moments.count > limit:
                    raise BadAudio(f"the song is longer than STEMS_MAX_DURATION_S allows ({clock(max_duration_s)})")
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
    check_complete(path, report, song.duration_s)
    return song


def _described(path: Path, folder: Path) -> str:
    """Return what ffmpeg says of a file before it reads any sound; nothing where that fails, as decoding tells why.

    It goes to a file in `folder`, which the leash keeps small: what a file says of itself may be all of the file.
    """
    command = leash.leashed([ffmpeg(), "-nostdin", "-hide_banner", *input_arguments(path)], _LOOK_S)
    none, env = subprocess.DEVNULL, leash.environ()
    with tempfile.TemporaryFile(dir=folder) as said:
        try:
            subprocess.run(command, stdin=none, stderr=said, timeout=_LOOK_S, process_group=0, env=env, check=False)
        except subprocess.TimeoutExpired:
            return ""
        said.seek(0)
        return said.read().decode(errors="replace")


def _check_level(frames: NDArray[np.float32], start: int, sample_rate_hz: int) -> None:
    """Raise BadAudio for a sample of `frames`, which begin at the sample `start`, that no music reaches."""
    if max(frames.max(), -frames.min()) <= 10 ** (_LOUDEST_DB / 20):
        return
    index, channel = np.unravel_index(np.abs(frames).argmax(), frames.shape)
    value = float(frames[index, channel])
    raise BadAudio(
        f"the sample at {(start + int(index)) / sample_rate_hz:.3f} s is {value:.3g}, {20 * math.log10(abs(value)):.0f}"
        f" dB over full scale: the file is damaged, or no sound; up to {_LOUDEST_DB} dB are taken"
    )


class Decoding:
    """A decoding that has begun, in a thread of its own, before the model is known that it is for.

    It goes by what the models there are ask for; `song` tells whether that was right.
    """

    SAMPLE_RATE_HZ = 44100
    CHANNELS = 2

    def __init__(self, path: Path, spool: Path, *, max_duration_s: float = 0) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._stop = threading.Event()
        self._song = self._pool.submit(
            decode,
            path,
            spool,
            sample_rate_hz=self.SAMPLE_RATE_HZ,
            channels=self.CHANNELS,
            max_duration_s=max_duration_s,
            stop=self._stop,
        )

    def stop(self) -> None:
        """End it, if it has not ended."""
        self._stop.set()
        self._pool.shutdown()

    def song(self, *, sample_rate_hz: int, channels: int) -> Song | None:
        """Wait for the song, and raise what `decode` raises; None at once for another rate or number of channels."""
        if (sample_rate_hz, channels) != (self.SAMPLE_RATE_HZ, self.CHANNELS):
            return None
        return self._song.result()


class _Moments:
    """Mean and deviation of the channel mean, merged chunk by chunk to keep float64's accuracy.

    Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, frames: NDArray[np.float32]) -> bool:
        """Take in `frames` of shape (samples, channels); False, and nothing is taken, if one is no finite number."""
        with np.errstate(invalid="ignore"):  # NaN and infinity are told of below
            return self._add(frames)

    def _add(self, frames: NDArray[np.float32]) -> bool:
        # By columns: NumPy's mean over rows of two takes ten times as long.
        values = frames[:, 0].astype(np.float64)
        for channel in range(1, frames.shape[1]):
            values += frames[:, channel]
        values /= frames.shape[1]
        mean = float(values.mean())
        if not math.isfinite(mean):  # the sum of a NaN and anything is a NaN
            return False
        values -= mean
        np.square(values, out=values)
        count = self.count + len(values)
        delta = mean - self.mean
        self._squares += float(values.sum()) + delta * delta * self.count * len(values) / count
        self.mean += delta * len(values) / count
        self.count = count
        return True

    @property
    def deviation(self) -> float:
        """Return the unbiased deviation; 0 for a single sample."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0
