"""The formats that people send: what ffmpeg makes of one signal in each, and how long that is when it is read again."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from stems.separate.audio import Song, decode
from tests.audio import ffmpeg

RATE_HZ = 44100
RATES_HZ = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
CHANNELS = (1, 2, 6)
_VIDEO = ("-f", "lavfi", "-i", "color=red:s=64x64:d=2", "-map", "0:a", "-map", "1:v", "-c:a", "aac")

# Name -> how ffmpeg makes it, the rates and the numbers of channels it can hold.
LOSSLESS = {
    "wav 16": ("wav", ("-c:a", "pcm_s16le"), RATES_HZ, CHANNELS),
    "wav 24": ("wav", ("-c:a", "pcm_s24le"), RATES_HZ, CHANNELS),
    "wav 32f": ("wav", ("-c:a", "pcm_f32le"), RATES_HZ, CHANNELS),
    "flac": ("flac", ("-c:a", "flac"), RATES_HZ, CHANNELS),
    "aiff": ("aiff", (), RATES_HZ, CHANNELS),
}
LOSSY = {
    "mp3": ("mp3", ("-c:a", "libmp3lame"), RATES_HZ[:7], CHANNELS[:2]),
    "ogg": ("ogg", ("-c:a", "libvorbis", "-q:a", "5"), RATES_HZ, CHANNELS),
    "opus": ("opus", ("-c:a", "libopus"), (8000, 16000, 48000), CHANNELS),
    "m4a": ("m4a", ("-c:a", "aac"), RATES_HZ[:9], CHANNELS),
    "mp4 video": ("mp4", _VIDEO, (44100, 48000), CHANNELS[:2]),
}


# Loudspeakers that WAV files say their channels are for: which bits of the mask, and the level that each side gets.
MASKS = {
    "mono (FL)": (1, 0x1, (0.5, 0.5)),
    "mono (FR)": (1, 0x2, (0.5, 0.5)),
    "mono (FC)": (1, 0x4, (0.5, 0.5)),
    "mono (LFE)": (1, 0x8, (0.5, 0.5)),
    "stereo (FL+FR)": (2, 0x3, (0.5, 0.25)),
    "stereo (FL+FC)": (2, 0x5, (0.5, 0.25)),
    "stereo (BL+BR)": (2, 0x30, (0.5, 0.25)),
    "stereo (FLC+FRC)": (2, 0xC0, (0.5, 0.25)),
    "stereo (SL+SR)": (2, 0x600, (0.5, 0.25)),
    "stereo (none)": (2, 0, (0.5, 0.25)),
}


def masked(path: Path, channels: int, mask: int, length: int = 1000) -> Path:
    """Write a WAV whose channels are constant, 0.5, 0.25 and so on, and for these loudspeakers."""
    sound = np.repeat((0.5 ** np.arange(1, channels + 1))[None], length, 0).astype("<f4").tobytes()
    about = struct.pack("<HHIIHH", 0xFFFE, channels, RATE_HZ, 4 * channels * RATE_HZ, 4 * channels, 32)
    about += struct.pack("<HHI", 22, 32, mask) + bytes.fromhex("0300000000001000800000aa00389b71")
    chunks = b"".join(struct.pack("<4sI", *each) + data for *each, data in (
        (b"fmt ", len(about), about), (b"data", len(sound), sound),
    ))  # fmt: skip
    path.write_bytes(struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks)
    return path


@dataclass(frozen=True)
class Case:
    format: str
    rate_hz: int
    channels: int

    @property
    def length(self) -> int:
        """Samples of the signal: somewhat more than a second, and at no rate of MP3 a number of which ffmpeg's muxer
        tells too much (stems.separate.headers.mend_mp3)."""
        return self.rate_hz + 1637

    def error(self, song: Song) -> float:
        """Return by how many samples a song is too long: a part of one where the signal ends between two."""
        return song.length - self.length * RATE_HZ / self.rate_hz

    def decoded(self, folder: Path) -> Song:
        extension, arguments, _, _ = (LOSSLESS | LOSSY)[self.format]
        source, path = folder / "signal.wav", folder / f"song.{extension}"
        # A click near the beginning and one near the end: where they come out tells of a shift.
        signal = np.zeros((self.length, self.channels), np.float32)
        signal[self.rate_hz // 10] = signal[-(self.rate_hz // 10)] = 0.9
        soundfile.write(source, signal, self.rate_hz, "FLOAT")
        ffmpeg("-i", str(source), *arguments, str(path))
        return decode(path, folder / "song.f32", sample_rate_hz=RATE_HZ, channels=2)

    def clicks(self, song: Song) -> list[float]:
        """Return where the two clicks are, in samples too late."""
        left = song.read(0, song.length)[0].abs().numpy()
        half = song.length // 2
        found = [int(left[:half].argmax()), half + int(left[half:].argmax())]
        meant = [self.rate_hz // 10, self.length - (self.rate_hz // 10)]
        return [at - each * RATE_HZ / self.rate_hz for at, each in zip(found, meant, strict=True)]


def cases(formats: dict[str, tuple[str, tuple[str, ...], tuple[int, ...], tuple[int, ...]]]) -> Iterator[Case]:
    for name, (_, _, rates_hz, channels) in formats.items():
        for rate_hz in rates_hz:
            for count in channels:
                yield Case(name, rate_hz, count)
