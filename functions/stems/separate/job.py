"""One upload's way through the worker: fetch, look for what is done already, separate, put, record, tell.

Every step may be repeated: stems are put before the record that names them, and a second try finds what the first one
left. So it does not matter at which line the process dies.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from stems import jobs, lease, metrics, naming
from stems.config import Settings
from stems.contract import Upload
from stems.division import Divided, Wanted
from stems.errors import Busy, Cancelled, ObjectGone, StateUnavailable
from stems.index import Index
from stems.options import Options, extension, serves
from stems.record import Asked, Stem, Track
from stems.separate import audio, parts, scratch
from stems.separate import model as models
from stems.separate.device import choose
from stems.separate.model import Model
from stems.separate.plan import Plan, plan_id
from stems.separate.progress import Progress
from stems.separate.publish import Finished, Publisher, info
from stems.separate.shelf import Shelf
from stems.separate.work import SEPARATING, Stages, separate_file
from stems.storage import Storage

_log = logging.getLogger(__name__)

# How long a song waits for one whose caller is gone: after a relay died, say. A request that waits counts as work, so
# that Knative adds pods, where a 429 a second would look like idleness and hold up the line.
_TURN_S = 20.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Song:
    """An upload with what is known of it; its bytes are in the file `path`."""

    upload: Upload
    songhash: str
    path: Path
    options: Options
    model: Model


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
        self._separating = threading.Lock()
        # One thread for all separations: whichever thread has once computed keeps 170 MB of torch's from then on.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="separate")
        # The worker's own model stays; beside it, the one that an upload asked for last.
        self._own = cache(lambda: self._load(settings.model))
        self._other = lru_cache(maxsize=1)(self._load)
        self._device = cache(lambda: choose(settings.device))
        scratch.clean()

    def load_model(self) -> Model:
        """Load the worker's own model, once, and say which it is. Raises ModelUnavailable."""
        model = self._own()
        try:
            self._index.announce(model.name, model.sources, model.note)
        except StateUnavailable as error:
            _log.warning("the model is not announced: %s", error)
        return model

    def _load(self, name: str) -> Model:
        settings = self._settings
        return models.load(name, Path(settings.model_dir), settings.precision, self._device())

    def _model(self, name: str | None) -> Model:
        return self._own() if name in (None, self._settings.model) else self._other(name)

    def do(self, upload: Upload, stages: Stages, places: int = 0) -> Track | Divided:
        """Return the record of the upload's song, separating it if that was not done before.

        A long song goes on in parts: then the answer is what to make before it is asked for again. `places`: so many
        workers have nothing else to do. `stages` takes the times; without a `separate` among them it was done before.
        Raises ObjectGone when the bytes are not there any more, Cancelled, other PermanentErrors for a song that cannot
        be separated, InProgress while somebody else is at it, other TransientErrors when a part is away.
        """
        try:
            return self._do(upload, stages, places)
        except Cancelled:
            # Last, as the tag `separating` may have come after the one of whoever cancelled.
            self._storage.tag(upload, "cancelled")
            raise

    def _do(self, upload: Upload, stages: Stages, places: int) -> Track | Divided:
        held = lease.held(self._redis, upload.job, self._settings.lease_s)
        with held, self._progress.followed(upload.job), scratch.folder() as folder:
            self._begin(upload)
            path = Path(folder) / "upload"
            with stages("fetch"):
                fetched = self._storage.fetch(upload, path, self._settings.max_bytes)
            options = Options.from_metadata(_user_metadata(fetched.metadata))
            model = self._model(options.model)
            options.wanted(model.sources)
            self._storage.tag(upload, "separating", songhash=fetched.songhash)
            with lease.held(self._redis, fetched.songhash, self._settings.lease_s):
                track = self._existing(fetched.songhash, options, model)
                self._progress.tell(upload.job, songhash=fetched.songhash, reused=int(track is not None))
                if track is None:
                    made = self._separate(_Song(upload, fetched.songhash, path, options, model), stages, places)
                    if isinstance(made, Divided):
                        return made
                    track = made
                else:
                    _log.info("answered from the existing result", extra=_extra(upload, track))
                # Within the lease: who removes the track has the last word.
                self._index.add(track)
                self._storage.tag(upload, "done", songhash=track.songhash)
            return track

    def make(self, wanted: Wanted) -> None:
        """Make a part of a divided song, if it is not there.

        Raises ObjectGone where the song, or its division, is not there any more; Cancelled and others, as `do`.
        """
        self._storage.check_upload(wanted.upload)
        identity = f"{wanted.songhash}.{wanted.plan}.{wanted.name}"
        held = lease.held(self._redis, identity, self._settings.lease_s)
        with held, self._progress.followed(wanted.job), scratch.folder() as name:
            folder, shelf = Path(name), Shelf(self._storage, wanted.songhash, wanted.plan)
            plan = shelf.plan()
            if plan is None or wanted.name not in (*plan.parts, *plan.joins):
                raise ObjectGone(f"the song is not divided so, or not any more: {wanted.name} of {wanted.plan}")
            if wanted.name in shelf.there():
                return
            with self._turn():
                _log.info("making a part", extra={"key": wanted.key, "job": wanted.upload.job, "part": wanted.name})
                if wanted.name in plan.joins:
                    on_join = partial(self._on_progress, wanted.job, left_s=None)
                    parts.join_stem(shelf, plan, wanted.name, folder, self._publisher, on_join)
                    return
                model = self._model(plan.model)
                options = Options(plan.model, plan.stems, plan.formats)
                if plan_id(plan.songhash, options, model) != plan.id:
                    raise ObjectGone(f"the song was divided for another model {plan.model} than the one that is here")
                on_part = partial(self._on_progress, wanted.job)
                self._computing(parts.make, shelf, plan, wanted.name, folder, model, on_part)

    def _existing(self, songhash: str, options: Options, model: Model) -> Track | None:
        """Return the record of this song if it already holds all that is asked for."""
        track = self._publisher.record(songhash)
        if track is None or track.model != info(model):
            return None
        for stem in options.wanted(model.sources):
            for name in options.formats:
                found = track.find(stem, extension(name))
                # Objects may have been removed by hand or have expired.
                if not (found and serves(name, found.quality) and self._storage.has(found.object, found.etag)):
                    return None
        return track

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Work on one thing at a time. Raises Busy."""
        if not self._separating.acquire(timeout=_TURN_S):
            raise Busy("this worker is separating another song", retry_after_s=1)
        try:
            with metrics.IN_WORK.track_inprogress():
                yield
        finally:
            self._separating.release()

    def _computing(self, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Do it in the thread that computes."""
        # In our context: the log names the event, the stages are spans of its trace.
        context = copy_context()
        return self._thread.submit(lambda: context.run(work, *given, **named)).result()

    def _separate(self, song: _Song, stages: Stages, places: int) -> Track | Divided:
        """Separate a song as a whole, or say which parts of it are missing, or join them."""
        folder, model, options = song.path.parent, song.model, song.options
        shelf = Shelf(self._storage, song.songhash, plan_id(song.songhash, options, model))
        with self._turn():
            name, limit_s = Path(naming.song_name(song.upload.key)).stem, self._settings.max_duration_s
            found: Plan | audio.Song | None = None
            if self._settings.part_s:
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
                    stages=stages,
                )
            if isinstance(found, Plan):
                return self._join(song, shelf, found, stages)
            _log.info("separating", extra={"key": song.upload.key, "job": song.upload.job, "model": model.name})
            result = self._computing(
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
            stems = tuple(self._publisher.put(song.songhash, result.stems, result.gain_db))
        return self._publish(song, result.length, stems, result.peaks, stages)

    def _join(self, song: _Song, shelf: Shelf, plan: Plan, stages: Stages) -> Track | Divided:
        missing = parts.missing(shelf, plan)
        if missing:
            _log.info("divided", extra={"key": song.upload.key, "job": song.upload.job, "parts": len(missing.parts)})
            return missing

        def on_progress(part: float) -> None:
            self._on_progress(song.upload.job, SEPARATING + (1 - SEPARATING) * part, None)

        stems, peaks = parts.join_all(shelf, plan, song.path.parent, self._publisher, on_progress, stages)
        track = self._publish(song, plan.length, stems, peaks, stages)
        shelf.clear()
        return track

    def _publish(
        self,
        song: _Song,
        length: int,
        stems: tuple[Stem, ...],
        peaks: Mapping[str, list[int]],
        stages: Stages,
    ) -> Track:
        asked = Asked(song.options.model or "", song.options.stems, song.options.formats)
        done = Finished(song.upload, song.songhash, song.model, asked, length, stems, peaks, dict(stages.seconds))
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
            cancelled = self._jobs.is_cancelled(job)
        except StateUnavailable:
            return
        if cancelled:
            raise Cancelled("the song was cancelled while it was in work")


def _user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("x-amz-meta-")}


def _extra(upload: Upload, track: Track) -> dict[str, object]:
    return {"key": upload.key, "job": upload.job, "songhash": track.songhash, "model": track.model.name}
