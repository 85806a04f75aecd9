"""From the parts of a song to its files: raw stems streamed in order through the encoder, none of them on disk."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from stems.separate.encode import Encoder
from stems.separate.peaks import Peaks
from stems.separate.plan import Plan
from stems.separate.shelf import About, Shelf
from stems.separate.spool import gain_for
from stems.separate.tags import Tags
from stems.separate.work import Made, encodings, files


def gain(abouts: Sequence[About]) -> float:
    """Return the one gain of all stems, of what is known of all parts."""
    return gain_for(max(about.peak for about in abouts))


def peaks(plan: Plan, abouts: Sequence[About]) -> Peaks:
    """Return the waveforms of the whole song, of what is known of all parts."""
    found = Peaks(plan.length)
    for part, about in zip(plan.parts, abouts, strict=True):
        found.merge(plan.samples(part)[0], about.peaks)
    return found


def join(
    shelf: Shelf, plan: Plan, stems: Sequence[str], level: float, folder: Path, on_progress: Callable[[float], None]
) -> list[Made]:
    """Write the files of these stems into `folder`, multiplied by `level`, and return them.

    `on_progress` is told the part done, some times a second. Raises ObjectGone where a part is missing, EncodeFailed.
    """
    cover = shelf.fetch_cover(folder / "cover.jpg") if plan.cover else None
    about = Tags(plan.title, plan.tags, cover)
    made = files(stems, plan.formats, folder)
    pipes = {stem: folder / f"{stem}.f32" for stem in stems}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    with ExitStack() as ending:
        feeds = [_Feed(path, _sound(shelf, plan, stem)) for stem, path in pipes.items()]
        for feed in feeds:
            ending.callback(feed.join)
        wishes = encodings(made, pipes.__getitem__, about, plan.title)
        encoder = Encoder(wishes, plan.sample_rate_hz, plan.channels, gain=level, cover=cover, aside=False)
        with encoder:
            encoder.grow(plan.length)
            try:
                encoder.finish(plan.length, on_progress)
            except Exception:
                # What was wrong with the sound comes before what is wrong with the files, which are short by it.
                for feed in feeds:
                    feed.check()
                raise
    for pipe in pipes.values():
        pipe.unlink()
    return made


def _sound(shelf: Shelf, plan: Plan, stem: str) -> Iterator[bytes]:
    for part in plan.parts:
        start, stop = plan.samples(part)
        yield from shelf.sound(part, stem, (stop - start) * plan.frame_bytes)


class _Feed:
    """A thread that writes sound into a named pipe, for whoever reads there."""

    def __init__(self, path: Path, sound: Iterator[bytes]) -> None:
        self._path, self._sound = path, sound
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # The reader is gone: it says why.
        with suppress(BrokenPipeError), self._path.open("wb", buffering=0) as pipe:
            try:
                for chunk in self._sound:
                    view = memoryview(chunk)
                    while view:
                        view = view[pipe.write(view) :]
            except BrokenPipeError:
                raise
            except Exception as error:  # for whoever waits for the files
                self._error = error

    def check(self) -> None:
        """Raise what went wrong with the sound."""
        if self._error:
            raise self._error

    def join(self) -> None:
        """Wait for the end; the reader has ended by now, or never began: then we are it, to let the writer go."""
        while self._thread.is_alive():
            os.close(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK))
            self._thread.join(0.05)
