"""From a song file to stem files: decode, separate, encode. The same for the service and the command line."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stems import trace
from stems.options import Options
from stems.separate import audio, encode, engine
from stems.separate.model import Model

_SEPARATING = 0.9  # of all progress; the rest is encoding


@dataclass(frozen=True, slots=True)
class Made:
    """One stem file."""

    stem: str
    format: str
    path: Path


@dataclass(frozen=True, slots=True)
class Result:
    """The stem files of a song. `gain_db`: what all were lowered by."""

    stems: tuple[Made, ...]
    duration_s: float
    gain_db: float


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
    on_progress: Callable[[float], None],
    name: str | None = None,
    stages: Stages | None = None,
) -> Result:
    """Write `folder/<stem>.<format>` for every stem and format of `options`.

    `folder` also takes the uncompressed audio meanwhile: about 21 MB per minute of song and stem. `on_progress` is told
    the part done, 0 to 1, after each segment and file. `name` is what the stems' title tags call the song; `stages`
    takes the times.
    Raises BadAudio, BadOptions, EncodeFailed.
    """
    wanted, stages = options.wanted(model.sources), stages or Stages()
    spool = folder / "song.f32"
    with stages("decode"):
        song = audio.decode(
            path, spool, sample_rate_hz=model.sample_rate_hz, channels=model.channels, max_duration_s=max_duration_s
        )
    with stages("separate"), encode.Spool(folder, model.sources, wanted) as stems:
        plan = engine.plan(model, song.length)
        for count, block in enumerate(engine.separate(model, song), start=1):
            stems.write(block, song)
            on_progress(_SEPARATING * count / plan.segments)
    spool.unlink()
    with stages("encode"):
        gain = stems.gain
        made = [Made(stem, fmt, folder / f"{stem}.{fmt}") for stem in wanted for fmt in options.formats]
        title = name or path.stem
        encodings = (
            encode.Encoding(
                spool=stems.path(each.stem),
                out=each.path,
                format=each.format,
                sample_rate_hz=model.sample_rate_hz,
                channels=model.channels,
                gain=gain,
                tags={"title": f"{title} - {each.stem}"},
            )
            for each in made
        )
        for count, _ in enumerate(encode.encode_all(encodings), start=1):
            on_progress(_SEPARATING + (1 - _SEPARATING) * count / len(made))
    for stem in wanted:
        stems.path(stem).unlink()
    return Result(tuple(made), song.duration_s, round(20 * math.log10(gain), 3))
