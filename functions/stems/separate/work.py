"""From a song file to stem files: decode, separate, encode. The same for the service and the command line.

The files are encoded while the stems grow, at gain 1. Where a sample would clip, that was in vain: the gain is known at
the end only, and the files are made then.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stems import trace
from stems.errors import BadAudio
from stems.options import Options, extension, quality
from stems.separate import audio, engine, tags
from stems.separate.encode import Encoder, Encoding
from stems.separate.model import Model
from stems.separate.pace import Pace
from stems.separate.peaks import Peaks
from stems.separate.spool import Spool, decibels
from stems.separate.tags import Tags

_FLAC_LEAST = 16  # samples of its smallest block (RFC 9639)
SEPARATING = 0.95  # of all progress; the rest is encoding

# What is told after each segment, and while the files are finished: the part done, 0 to 1, and the seconds left, None
# where nothing is known of them. What it raises ends the work, and leaves nothing behind.
OnProgress = Callable[[float, float | None], None]


@dataclass(frozen=True, slots=True)
class Made:
    """One stem file. `format`: its extension; `quality`: what of stems.options.QUALITIES it was made at."""

    stem: str
    format: str
    quality: str
    path: Path


@dataclass(frozen=True, slots=True)
class Result:
    """The stem files of a song of `length` samples. `gain_db`: what all were lowered by; `peaks`: points to draw."""

    stems: tuple[Made, ...]
    length: int
    sample_rate_hz: int
    gain_db: float
    peaks: Mapping[str, list[int]]

    @property
    def duration_s(self) -> float:
        """Return the playing time in seconds."""
        return self.length / self.sample_rate_hz


class Decoding(Protocol):
    """A decoding of the same file that began earlier, or has ended."""

    def song(self, *, sample_rate_hz: int, channels: int) -> audio.Song | None:
        """Return the song; None where it was decoded for something else."""


def files(stems: Iterable[str], formats: Sequence[str], folder: Path) -> list[Made]:
    """Return the files that are to be made of these stems, in `folder`."""
    return [
        Made(stem, extension(each), quality(each), folder / f"{stem}.{extension(each)}")
        for stem in stems
        for each in formats
    ]


def encodings(made: Iterable[Made], raw: Callable[[str], Path], about: Tags, title: str) -> list[Encoding]:
    """Return how files are made; `raw` tells the raw file of a stem, `about` and `title` go into the tags."""
    return [
        Encoding(raw(each.stem), each.path, f"{each.format}-{each.quality}", about.of(each.stem, title))
        for each in made
    ]


class Stages:
    """Seconds by stage; each is a span of the trace, too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`."""
        started = time.monotonic()
        try:
            with trace.span(name):
                yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)


def separate_file(
    path: Path,
    folder: Path,
    *,
    model: Model,
    options: Options,
    max_duration_s: float,
    on_progress: OnProgress,
    name: str | None = None,
    stages: Stages | None = None,
    decoding: Decoding | None = None,
) -> Result:
    """Write `folder/<stem>.<extension>` for every stem and format of `options`.

    `folder` also takes the uncompressed audio meanwhile: about 21 MB per minute of song and stem. `name` is what the
    stems' title tags call a song that has no title of its own; `stages` takes the times; `decoding`: of the same file,
    begun earlier.
    Raises BadAudio, BadOptions, EncodeFailed, and what `on_progress` raises.
    """
    wanted, stages = options.wanted(model.sources), stages or Stages()
    spool = folder / "song.f32"
    rate_hz, channels = model.sample_rate_hz, model.channels
    # Who brings a decoded song has timed that: a second time would replace the first.
    decode = nullcontext() if "decode" in stages.seconds else stages("decode")
    with decode, ThreadPoolExecutor(1, thread_name_prefix="tags") as beside:
        told = beside.submit(tags.read, path, folder / "cover.jpg")
        song = decoding.song(sample_rate_hz=rate_hz, channels=channels) if decoding else None
        song = song or audio.decode(
            path, spool, sample_rate_hz=rate_hz, channels=channels, max_duration_s=max_duration_s
        )
    about, title = told.result(), name or path.stem
    made = files(wanted, options.formats, folder)
    if song.length < _FLAC_LEAST and "flac" in map(extension, options.formats):
        raise BadAudio(f"the song has {song.length} samples; FLAC begins at {_FLAC_LEAST}")
    peaks = Peaks(song.length)
    with Spool(folder, model.sources, wanted) as stems, ExitStack() as children:
        wishes = encodings(made, stems.path, about, title)
        encoder = children.enter_context(Encoder(wishes, rate_hz, channels, cover=about.cover))
        with stages("separate"):
            segments = engine.plan(model, song.length).segments
            pace = Pace(segments)
            for count, block in enumerate(engine.separate(model, song), start=1):
                peaks.add(block.start, stems.write(block, song))
                if stems.clips:
                    encoder.stop()
                else:
                    encoder.grow(stems.length)
                on_progress(SEPARATING * count / segments, pace.left_s(count))
        song.path.unlink()
        with stages("encode"):
            if stems.clips:
                encoder = children.enter_context(Encoder(wishes, rate_hz, channels, gain=stems.gain, cover=about.cover))
            encoder.finish(song.length, lambda part: on_progress(SEPARATING + (1 - SEPARATING) * part, None))
    on_progress(1.0, 0.0)
    for stem in wanted:
        stems.path(stem).unlink()
    return Result(tuple(made), song.length, song.sample_rate_hz, decibels(stems.gain), peaks.shares(stems.gain))
