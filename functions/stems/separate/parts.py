"""A long song in parts: divided, each part made by itself, joined. Whoever makes a part knows nothing of the others.

Every step looks first at what is there, and may be repeated: it writes the same bytes under the same names.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from stems.division import Divided, Next
from stems.errors import ObjectGone, TransientError
from stems.options import Options
from stems.record import Stem
from stems.separate import audio, engine, join, tags
from stems.separate import plan as plans
from stems.separate.audio import Song
from stems.separate.model import Model
from stems.separate.pace import Pace
from stems.separate.peaks import Peaks
from stems.separate.plan import Plan
from stems.separate.publish import Publisher
from stems.separate.shelf import About, Joined, Shelf
from stems.separate.spill import Spill
from stems.separate.spool import Spool, decibels
from stems.separate.work import SEPARATING, OnProgress, Stages


class Decoded:
    """A song that is decoded already, for `separate_file`."""

    def __init__(self, song: Song) -> None:
        self._song = song

    def song(self, *, sample_rate_hz: int, channels: int) -> Song:
        """Return the song, which was decoded for this very model."""
        return self._song


def decode(
    path: Path,
    folder: Path,
    shelf: Shelf,
    *,
    name: str,
    model: Model,
    options: Options,
    max_duration_s: float,
    part_s: float,
    places: int,
    on_long: Callable[[], None],
    stages: Stages,
) -> Song | Plan:
    """Decode an upload into `folder`; a song longer than a part goes to the shelf instead, divided.

    `name`: what the song is called if it has no title; `on_long` is called before anything goes to the shelf. Raises
    BadAudio and what storing raises.
    """

    def store(sound: BinaryIO) -> None:
        on_long()
        shelf.put_mix(sound)

    rate_hz, spool = model.sample_rate_hz, folder / "song.f32"
    whole = int(plans.longest_whole_s(model, part_s, places) * rate_hz)
    stems = options.wanted(model.sources)
    with stages("decode"), Spill(spool, whole * audio.frame_bytes(model.channels), store) as spill:
        song = audio.decode(
            path,
            spool,
            sample_rate_hz=rate_hz,
            channels=model.channels,
            max_duration_s=max_duration_s,
            into=spill,
        )
    if not spill.over:
        return song
    about = tags.read(path, folder / "cover.jpg")
    cut = engine.plan(model, song.length)
    count = plans.count(song.duration_s, model, cut.segments, part_s, places)
    plan = Plan(
        id=shelf.id,
        songhash=shelf.songhash,
        length=song.length,
        sample_rate_hz=rate_hz,
        channels=model.channels,
        mean=song.mean,
        deviation=song.deviation,
        stride=cut.stride,
        cuts=plans.cuts(cut.segments, count),
        model=model.name,
        stems=stems,
        formats=options.formats,
        apart=plans.joined_apart(song.duration_s, len(stems), len(options.formats), part_s),
        title=about.title or name,
        tags=about.others,
        cover=about.cover is not None,
        stages_s=dict(stages.seconds),
    )
    shelf.put_plan(plan, about.cover)
    return plan


def missing(shelf: Shelf, plan: Plan) -> Divided | None:
    """Return what is to be made before the song can go on; None where nothing is."""
    there = shelf.there()
    steps = ((plan.parts, 0.0, SEPARATING), (plan.joins, SEPARATING, 1.0))
    for names, begin, end in steps:
        wanted = [name for name in names if name not in there]
        if wanted:
            begin += (end - begin) * (len(names) - len(wanted)) / len(names)
            place_s = round(plan.left_s(wanted), 3)
            parts = tuple(Next(name, place_s) for name in wanted)
            return Divided(plan.songhash, plan.id, parts, len(names), round(begin, 4), end)
    return None


def make(shelf: Shelf, plan: Plan, part: str, folder: Path, model: Model, on_progress: OnProgress) -> None:
    """Compute a part and put it on the shelf. Raises ObjectGone where the song's sound is not there any more."""
    stages = Stages()
    (first, last), (start, stop) = plan.segments(part), plan.samples(part)
    # The segment before, for its fading tail, and what networks look at around the segments that they are given.
    begin = max((first - 1) * plan.stride - model.segment_length, 0)
    end = min(last * plan.stride + model.segment_length, plan.length)
    path = folder / "song.f32"
    with stages("fetch"):
        try:
            shelf.fetch_mix(path, begin * plan.frame_bytes, (end - begin) * plan.frame_bytes)
        except ObjectGone:
            shelf.forget_plan()  # whoever gets the song next decodes it anew
            raise
    song = Song(path, plan.length, plan.channels, plan.sample_rate_hz, plan.mean, plan.deviation, offset=begin)
    peaks, pace = Peaks(plan.length), Pace(last - first)
    with Spool(folder, model.sources, plan.stems) as spool:
        with stages("separate"):
            for count, block in enumerate(engine.separate(model, song, first=first, last=last), start=1):
                peaks.add(block.start, spool.write(block, song))
                on_progress(count / (last - first), pace.left_s(count))
        files = [(stem, spool.path(stem)) for stem in plan.stems]
        with stages("put"):
            shelf.put_sound(part, files)
    shelf.put_about(part, About(spool.peak, peaks.excerpt(start, stop), stages.seconds))


def join_stem(shelf: Shelf, plan: Plan, name: str, folder: Path, on_progress: Callable[[float], None]) -> None:
    """Join one stem and put its files on the shelf. Raises ObjectGone where a part is missing."""
    stages = Stages()
    level = join.gain([shelf.about(part) for part in plan.parts])
    with stages("encode"):
        files = join.join(shelf, plan, (name.removeprefix("join-"),), level, folder, on_progress)
    with stages("put"):
        stems = tuple(shelf.put_file(name, made, decibels(level)) for made in files)
    shelf.put_about(name, Joined(stems, stages.seconds))


def join_all(
    shelf: Shelf,
    plan: Plan,
    folder: Path,
    publisher: Publisher,
    on_progress: Callable[[float], None],
    stages: Stages,
) -> tuple[tuple[Stem, ...], Mapping[str, list[int]]]:
    """Publish the stems of the song, joined now where they are not yet; return them and the waveforms.

    `stages` gets the times of all who made them. Raises TransientError where a part is missing: it is to be made anew.
    """
    try:
        abouts = [shelf.about(part) for part in plan.parts]
        level, joins = join.gain(abouts), [shelf.joined(name) for name in plan.joins]
        if plan.apart:
            with stages("put"):
                stems = tuple(publisher.take(plan.songhash, stem) for each in joins for stem in each.stems)
        else:
            with stages("encode"):
                files = join.join(shelf, plan, plan.stems, level, folder, on_progress)
            with stages("put"):
                stems = publisher.put(plan.songhash, files, decibels(level))
    except ObjectGone as error:
        raise TransientError(f"a part of the song was lost, and is made anew: {error}") from error
    total: Counter[str] = Counter()
    made: Sequence[About | Joined] = (*abouts, *joins)
    for each in (stages.seconds, plan.stages_s, *(about.stages_s for about in made)):
        total.update(each)
    stages.seconds.update({name: round(seconds, 3) for name, seconds in total.items()})
    return stems, join.peaks(plan, abouts).shares(level)
