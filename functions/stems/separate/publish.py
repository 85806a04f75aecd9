"""The end of a separation: stems and waveforms into the bucket, then the record, which makes the track exist."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from stems import jobs, naming
from stems.contract import Upload
from stems.errors import ObjectGone, StorageUnavailable, UnknownTrack
from stems.options import COMPLEMENT, FORMATS, Options, extension, serves
from stems.record import Asked, ModelInfo, Stem, Track
from stems.separate import peaks
from stems.separate.model import Model
from stems.separate.work import Made
from stems.storage import Storage


@dataclass(frozen=True, slots=True)
class Finished:
    """What is to be published. `asked`: the upload's options; `length` in samples; `peaks`: points to draw, by stem;
    `stages_s`: seconds by stage."""

    upload: Upload
    songhash: str
    model: Model
    asked: Asked
    length: int
    stems: tuple[Stem, ...]
    peaks: Mapping[str, list[int]]
    stages_s: Mapping[str, float]


class Publisher:
    """Publishes tracks; `check` is called just before a record is written, and may raise."""

    def __init__(self, storage: Storage, check: Callable[[str], None]) -> None:
        self._storage = storage
        self._check = check

    def put(self, songhash: str, files: Iterable[Made], gain_db: float) -> tuple[Stem, ...]:
        """Store files of stems; no record names them yet."""
        name = partial(naming.stem_object, songhash)
        return tuple(store(self._storage, name(made.stem, made.format), made, gain_db) for made in files)

    def take(self, songhash: str, stem: Stem) -> Stem:
        """Store a file of a stem that lies elsewhere in the bucket. Raises ObjectGone if it does not any more."""
        name = naming.stem_object(songhash, stem.stem, stem.format)
        return replace(stem, object=name, etag=self._storage.copy_stem(stem, name, FORMATS[stem.format]))

    def publish(self, done: Finished, folder: Path) -> Track:
        """Write the record of a track, with what an earlier one of the same model had; `folder` is for files."""
        track = _track(done)
        before = self.record(done.songhash)
        if before and before.model == track.model:
            there = tuple(stem for stem in before.stems if self._storage.has(stem.object, stem.etag))
            track = track.merged(replace(before, stems=there))
        track = replace(track, peaks=self._put_peaks(folder, track, done, before))
        if before is None:  # or its objects may be these already
            self._check(done.upload.job)
        for stem in track.stems:
            if not self._storage.has(stem.object, stem.etag):  # after a long pause: they counted as orphans
                raise StorageUnavailable(f"{stem.object} is not there any more")
        self._storage.put_record(track)
        return track

    def record(self, songhash: str) -> Track | None:
        """Return the record of a song, if there is one."""
        try:
            return self._storage.track(songhash)
        except UnknownTrack:
            return None

    def existing(self, track: Track | None, options: Options, model: Model) -> Track | None:
        """Return the record of a song, if it has one that already holds all that is asked for."""
        if track is None or track.model != info(model):
            return None
        for stem in options.wanted(model.sources):
            for name in options.formats:
                found = track.find(stem, extension(name))
                # Objects may have been removed by hand or have expired.
                if not (found and serves(name, found.quality) and self._storage.has(found.object, found.etag)):
                    return None
        return track

    def whole(self, track: Track | None, options: Options, model: Model) -> Options:
        """Return what to make so that the record has one gain: where a `no_…` may change it, also what is there.

        Where that would change the quality of a file that nobody asks for, what is asked for alone is made.
        """
        if track is None or track.model != info(model):
            return options
        there = [each.stem for each in track.stems]
        if not any(stem.startswith(COMPLEMENT) for stem in (*options.wanted(model.sources), *there)):
            return options  # the gain looks at all sources, wanted or not
        made = {f"{each.format}-{each.quality}" for each in track.stems}
        qualities = made | {each for each in options.formats if each != extension(each)}
        if len(set(map(extension, qualities))) < len(qualities):
            return options
        return options.beside(there, sorted(made), model.sources)

    def _put_peaks(self, folder: Path, track: Track, done: Finished, before: Track | None) -> str:
        """Put the waveforms of all stems of the record, also of those that were made earlier; return their object."""
        stems, name = dict(done.peaks), naming.peaks_object(track.songhash)
        if before and before.peaks:
            try:
                answer = self._storage.open(before.peaks)
                try:
                    earlier = peaks.stems_of(answer.read(), done.length)
                finally:
                    answer.release_conn()
            except ObjectGone:
                earlier = {}
            stems = {stem.stem: earlier[stem.stem] for stem in track.stems if stem.stem in earlier} | stems
        path = folder / "peaks.json"
        path.write_bytes(peaks.to_json(done.length, track.sample_rate_hz, stems))
        self._storage.put_stem(name, path, "application/json")
        return name


def store(storage: Storage, name: str, made: Made, gain_db: float) -> Stem:
    """Store a file of a stem as the object `name`."""
    size, etag = storage.put_stem(name, made.path, FORMATS[made.format])
    return Stem(made.stem, made.format, name, size, etag, gain_db, made.quality)


def info(model: Model) -> ModelInfo:
    """Return what a record says of a model."""
    return ModelInfo(model.name, model.digest, precision=model.precision, note=model.note)


def _track(done: Finished) -> Track:
    return Track(
        songhash=done.songhash,
        name=naming.song_name(done.upload.key),
        bucket=done.upload.bucket,
        key=done.upload.key,
        upload_etag=done.upload.etag,
        duration_s=round(done.length / done.model.sample_rate_hz, 3),
        sample_rate_hz=done.model.sample_rate_hz,
        channels=done.model.channels,
        model=info(done.model),
        created_ms=jobs.now_ms(),
        stems=done.stems,
        stages_s=done.stages_s,
        options=done.asked,
    )
