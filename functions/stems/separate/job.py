"""One upload's way through the worker: fetch, look for what is done already, separate, put, record, tell.

Every step may be repeated: stems are put before the record that names them, and a second try finds what the first one
left. So it does not matter at which line the process dies.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stems import jobs, lease, naming
from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided, Wanted
from stems.errors import Cancelled, ObjectGone, StateUnavailable
from stems.index import Index
from stems.options import Options
from stems.record import Asked, Stem, Track
from stems.separate import audio, parts, scratch
from stems.separate.leftovers import Leftovers
from stems.separate.model import Model
from stems.separate.plan import Plan, plan_id
from stems.separate.progress import Progress
from stems.separate.publish import Finished, Publisher
from stems.separate.shelf import Shelf
from stems.separate.work import SEPARATING, Stages, separate_file
from stems.separate.workbench import Workbench
from stems.storage import Storage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Song:
    """An upload with what is known of it; its bytes are in the file `path`, unless there is a `plan`.

    `asked`: its own options; `options`: what is made.
    """

    upload: Upload
    path: Path
    asked: Options
    options: Options
    model: Model
    shelf: Shelf
    plan: Plan | None = None


class Worker:
    """Does jobs, one separation at a time; safe to call from several threads."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._redis = jobs.connect(settings)
        self._jobs = jobs.Jobs(self._redis)
        self._progress = Progress(self._jobs)
        self._index = Index(self._redis, storage)
        self._publisher = Publisher(storage, self._check)
        self._bench = Workbench(settings)
        self._leftovers = Leftovers(settings, storage, self._redis)
        scratch.clean()

    def load_model(self) -> Model:
        """Load the worker's own model, once, and say which it is. Raises ModelUnavailable."""
        model = self._bench.model()
        try:
            self._index.announce(model.name, model.sources, model.note)
        except StateUnavailable as error:
            _log.warning("the model is not announced: %s", error)
        return model

    def do(self, upload: Upload, stages: Stages, places: int = 0) -> Track | Divided:
        """Return the record of the upload's song, separating it if that was not done before.

        A long song goes on in parts: then the answer is what to make before it is asked for again. `places`: so many
        workers have nothing else to do. `stages` takes the times; without a `separate` among them it was done before.
        Raises ObjectGone when the bytes are not there any more, Cancelled, other PermanentErrors for a song that cannot
        be separated, InProgress while somebody else is at it, other TransientErrors when a part is away.
        """
        self._leftovers.tidy()
        divided = self._leftovers.of(upload.job)
        try:
            made = self._do(upload, stages, places, divided)
        except (Cancelled, ObjectGone) as error:
            self._leftovers.give_up(upload.job)
            if isinstance(error, Cancelled):
                # Last, as the tag `separating` may have come after the one of whoever cancelled.
                self._storage.tag(upload, "cancelled")
            raise
        if divided and isinstance(made, Track):
            self._leftovers.give_up(upload.job)
        return made

    def _do(self, upload: Upload, stages: Stages, places: int, divided: Shelf | None) -> Track | Divided:
        held = lease.held(self._redis, upload.job, self._settings.lease_s)
        with held, self._progress.followed(upload.job), scratch.folder() as folder:
            self._begin(upload)
            path = Path(folder) / "upload"
            options = Options.from_metadata(_user_metadata(self._storage.check_upload(upload)))
            model = self._bench.model(options.model)
            options.wanted(model.sources)
            plan = divided.plan() if divided and self._settings.part_s else None
            songhash = plan.songhash if plan else self._fetched(upload, path, stages)
            self._storage.tag(upload, "separating", songhash=songhash)
            with lease.held(self._redis, songhash, self._settings.lease_s):
                record = self._publisher.record(songhash)
                whole = self._publisher.whole(record, options, model)
                shelf = Shelf(self._storage, songhash, plan_id(songhash, whole, model))
                track = self._publisher.existing(record, options, model)
                self._progress.tell(upload.job, songhash=songhash, reused=int(track is not None))
                if track is None:
                    if plan and plan.id != shelf.id:  # of another wish
                        plan = None
                        self._fetched(upload, path, stages)
                    made = self._separate(_Song(upload, path, options, whole, model, shelf, plan), stages, places)
                    if isinstance(made, Divided):
                        self._leftovers.want(shelf, upload.job)
                        return made
                    track = made
                else:
                    _log.info("answered from the existing result", extra=_extra(upload, track))
                shelf.clear()  # also where the worker that wrote the record came no further
                # Within the lease: who removes the track has the last word.
                self._index.add(track)
                self._storage.tag(upload, "done", songhash=track.songhash)
            return track

    def _fetched(self, upload: Upload, path: Path, stages: Stages) -> str:
        with stages("fetch"):
            return self._storage.fetch(upload, path, self._settings.max_bytes).songhash

    def make(self, wanted: Wanted) -> None:
        """Make a part of a divided song, if it is not there.

        Raises ObjectGone where the song, or its division, is not there any more; Cancelled and others, as `do`.
        """
        self._leftovers.tidy()
        shelf = Shelf(self._storage, wanted.songhash, wanted.plan)
        try:
            self._storage.check_upload(wanted.upload)
        except ObjectGone:
            self._leftovers.give_up(wanted.upload.job)
            raise
        plan = shelf.plan()
        if plan is None or wanted.name not in (*plan.parts, *plan.joins):
            raise ObjectGone(f"the song is not divided so, or not any more: {wanted.name} of {wanted.plan}")
        identity = f"{wanted.songhash}.{wanted.plan}.{wanted.name}"
        held = lease.held(self._redis, identity, self._settings.lease_s)
        with held, self._progress.followed(wanted.job), scratch.folder() as folder:
            if shelf.has(wanted.name):
                return
            with self._bench.turn():
                _log.info("making a part", extra={"key": wanted.key, "job": wanted.upload.job, "part": wanted.name})
                try:
                    self._make(wanted, shelf, plan, Path(folder))
                except Cancelled:
                    self._take_back(shelf)
                    raise
            self._take_back(shelf)

    def _take_back(self, shelf: Shelf) -> None:
        """Look whether the song has ended while a part of it was made: who removed the others did not see this one."""
        if shelf.plan() is None:
            self._leftovers.disown(shelf)
        else:
            self._leftovers.tidy()

    def _make(self, wanted: Wanted, shelf: Shelf, plan: Plan, folder: Path) -> None:
        if wanted.name in plan.joins:
            on_join = partial(self._on_progress, wanted.job, left_s=None)
            parts.join_stem(shelf, plan, wanted.name, folder, on_join)
            return
        model = self._bench.model(plan.model)
        if plan_id(plan.songhash, plan.options, model) != plan.id:
            raise ObjectGone(f"the song was divided for another model {plan.model} than the one that is here")
        on_part = partial(self._on_progress, wanted.job)
        self._bench.computing(parts.make, shelf, plan, wanted.name, folder, model, on_part)

    def _separate(self, song: _Song, stages: Stages, places: int) -> Track | Divided:
        """Separate a song as a whole, or say which parts of it are missing, or join them."""
        folder, model, options, shelf = song.path.parent, song.model, song.options, song.shelf
        with self._bench.turn():
            name, limit_s = Path(naming.song_name(song.upload.key)).stem, self._settings.max_duration_s
            found: Plan | audio.Song | None = song.plan
            if found is None and self._settings.part_s:
                found = shelf.plan() or parts.decode(
                    song.path,
                    folder,
                    shelf,
                    name=name,
                    model=model,
                    options=options,
                    max_duration_s=limit_s,
                    part_s=self._settings.part_s,
                    places=places,
                    on_long=partial(self._leftovers.want, shelf, song.upload.job),
                    stages=stages,
                )
            if isinstance(found, Plan):
                return self._join(song, found, stages)
            _log.info("separating", extra={"key": song.upload.key, "job": song.upload.job, "model": model.name})
            result = self._bench.computing(
                separate_file,
                song.path,
                folder,
                model=model,
                options=options,
                max_duration_s=limit_s,
                on_progress=partial(self._on_progress, song.upload.job),
                name=name,
                stages=stages,
                decoding=parts.Decoded(found) if found else None,
            )
        with stages("put"):
            stems = self._publisher.put(shelf.songhash, result.stems, result.gain_db)
        return self._publish(song, result.length, stems, result.peaks, stages)

    def _join(self, song: _Song, plan: Plan, stages: Stages) -> Track | Divided:
        missing = parts.missing(song.shelf, plan)
        self._check(song.upload.job)
        if missing:
            _log.info("divided", extra={"key": song.upload.key, "job": song.upload.job, "parts": len(missing.parts)})
            return missing

        def on_progress(part: float) -> None:
            self._on_progress(song.upload.job, SEPARATING + (1 - SEPARATING) * part, None)

        stems, peaks = parts.join_all(song.shelf, plan, song.path.parent, self._publisher, on_progress, stages)
        return self._publish(song, plan.length, stems, peaks, stages)

    def _publish(
        self,
        song: _Song,
        length: int,
        stems: tuple[Stem, ...],
        peaks: Mapping[str, list[int]],
        stages: Stages,
    ) -> Track:
        asked = Asked(song.asked.model or "", song.asked.stems, song.asked.formats)
        done = Finished(song.upload, song.shelf.songhash, song.model, asked, length, stems, peaks, dict(stages.seconds))
        track = self._publisher.publish(done, song.path.parent)
        _log.info("separated", extra={**_extra(song.upload, track), **track.stages_s})
        return track

    def _begin(self, upload: Upload) -> None:
        """Say that the song is in work; not from the thread, since a late word would deny that it is done."""
        try:
            if self._jobs.begin(upload.job):
                raise Cancelled("the song was cancelled before its turn")
        except StateUnavailable as error:
            _log.warning("the start is not told: %s", error)

    def _on_progress(self, job: str, part: float, left_s: float | None) -> None:
        """Tell of a segment; between two of them, a cancelled song ends."""
        left = {} if left_s is None else {"left_s": round(left_s, 1)}
        self._progress.tell(job, progress=round(part, 4), **left)
        self._progress.check(job)

    def _check(self, job: str) -> None:
        """Look for the last time before the record, which makes the track exist."""
        try:
            (cancelled,) = self._jobs.fields(job, "cancel")
        except StateUnavailable:
            return
        if cancelled:
            raise Cancelled("the song was cancelled while it was in work")


def _user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("x-amz-meta-")}


def _extra(upload: Upload, track: Track) -> dict[str, object]:
    return {"key": upload.key, "job": upload.job, "songhash": track.songhash, "model": track.model.name}
