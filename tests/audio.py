"""Songs made by ffmpeg, and reading them."""

import functools
import subprocess
import tempfile
from pathlib import Path

import torch

from stems.separate.audio import Song, decode
from tests.programs import need

RATE_HZ = 44100
TONE = "aevalsrc='0.4*sin(440*2*PI*t)+0.1*random(0)|0.3*sin(300*2*PI*t)':s=44100:d={}"
CODECS = {
    "song.mp3": ("-c:a", "libmp3lame", "-b:a", "192k"),
    "song.wav": ("-c:a", "pcm_s16le"),
    "song.flac": ("-c:a", "flac"),
    "song.m4a": ("-c:a", "aac"),
    "faststart.m4a": ("-c:a", "aac", "-movflags", "+faststart"),
    "song.ogg": ("-c:a", "libvorbis"),
    "song.opus": ("-c:a", "libopus"),
    "song.aiff": (),
    "song.webm": ("-c:a", "libopus"),
    "song.wv": ("-c:a", "wavpack"),
    "vbr.mp3": ("-c:a", "libmp3lame", "-q:a", "4"),
}


def ffmpeg(*arguments: str) -> bytes:
    command = [need("ffmpeg"), "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def make(path: Path, *arguments: str, duration_s: float = 4) -> Path:
    path.write_bytes(_made(path.suffix, arguments, duration_s))
    return path


@functools.cache
def ffmpeg_bytes(name: str, *arguments: str, duration_s: float = 4, source: tuple[str, ...] = ()) -> bytes:
    """Return what ffmpeg makes of a test song, or of `source`, as a file of this name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        given = source or ("-f", "lavfi", "-i", TONE.format(duration_s))
        ffmpeg(*given, *arguments, "-bitexact", str(path))
        return path.read_bytes()


@functools.cache
def _made(suffix: str, arguments: tuple[str, ...], duration_s: float) -> bytes:
    """Return the bytes of a test song: many tests want the same one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made{suffix}"
        ffmpeg("-f", "lavfi", "-i", TONE.format(duration_s), *arguments, str(path))
        return path.read_bytes()


def read(path: Path, tmp_path: Path, *, channels: int = 2, max_duration_s: float = 0) -> Song:
    need("ffmpeg")
    spool = tmp_path / "spool.f32"
    return decode(path, spool, sample_rate_hz=RATE_HZ, channels=channels, max_duration_s=max_duration_s)


def snr_db(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """Return how far the difference lies below the signal."""
    error = (wanted.double() - found.double()).square().sum()
    return float(10 * torch.log10(wanted.double().square().sum() / (error + 1e-300)))
