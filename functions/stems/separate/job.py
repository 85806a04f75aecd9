"""One upload's way through the worker: fetch, look for what is done already, separate, put, record, tell.

Every step may be repeated: stems are put before the record that names them, and a second try finds what the first one
left. So it does not matter at which line the process dies.
"""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path

from stems import jobs, lease, metrics, naming
from stems.config import Settings
from stems.contract import Upload
from stems.errors import Busy, Cancelled, ObjectGone, StateUnavailable, StorageUnavailable, UnknownTrack
from stems.index import Index
from stems.options import FORMATS, Options, extension, serves
from stems.record import Asked, ModelInfo, Stem, Track
from stems.separate import model as models
from stems.separate import peaks, scratch
from stems.separate.device import choose
from stems.separate.model import Model
from stems.separate.progress import Progress
from stems.separate.work import Result, Stages, separate_file
from stems.storage import Fetched, Storage

_log = logging.getLogger(__name__)

# How long a song waits for one whose caller is gone: after a relay died, say. A request that waits counts as work, so
# that Knative adds pods, where a 429 a second would look like idleness and hold up the line.
_TURN_S = 20.0


class Worker:
    """Does jobs, one separation at a time; safe to call from several threads."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._redis = jobs.connect(settings)
        self._jobs = jobs.Jobs(self._redis)
        self._progress = Progress(self._jobs)
        self._index = Index(self._redis, storage)
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

    def do(self, upload: Upload, stages: Stages) -> Track:
        """Return the record of the upload's song, separating it if that was not done before.

        `stages` takes the times; without a `separate` among them it was done before. Raises ObjectGone when the bytes
        are not there any more, Cancelled, other PermanentErrors for a song that cannot be separated, InProgress while
        somebody else is at it, other TransientErrors when a part is away.
        """
        try:
            return self._do(upload, stages)
        except Cancelled:
            # Last, as the tag `separating` may have come after the one of whoever cancelled.
            self._storage.tag(upload, "cancelled")
            self._progress.forget(upload.job)
            raise

    def _do(self, upload: Upload, stages: Stages) -> Track:
        with lease.held(self._redis, upload.job, self._settings.lease_s), scratch.folder() as folder:
            self._progress.forget(upload.job)
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
                    track = self._separate(upload, fetched, path, options, model, stages)
                else:
                    _log.info("answered from the existing result", extra=_extra(upload, track))
            self._index.add(track)
            self._storage.tag(upload, "done", songhash=track.songhash)
            return track

    def _existing(self, songhash: str, options: Options, model: Model) -> Track | None:
        """Return the record of this song if it already holds all that is asked for."""
        track = self._record(songhash)
        if track is None or track.model != _info(model):
            return None
        for stem in options.wanted(model.sources):
            for name in options.formats:
                found = track.find(stem, extension(name))
                # Objects may have been removed by hand or have expired.
                if not (found and serves(name, found.quality) and self._storage.has(found.object, found.etag)):
                    return None
        return track

    def _record(self, songhash: str) -> Track | None:
        try:
            return self._storage.track(songhash)
        except UnknownTrack:
            return None

    def _separate(
        self, upload: Upload, fetched: Fetched, path: Path, options: Options, model: Model, stages: Stages
    ) -> Track:
        if not self._separating.acquire(timeout=_TURN_S):
            raise Busy("this worker is separating another song", retry_after_s=1)
        try:
            _log.info("separating", extra={"key": upload.key, "job": upload.job, "model": model.name})
            with metrics.IN_WORK.track_inprogress():
                # In our context: the log names the event, the stages are spans of its trace.
                result = self._thread.submit(
                    copy_context().run,
                    separate_file,
                    path,
                    path.parent,
                    model=model,
                    options=options,
                    max_duration_s=self._settings.max_duration_s,
                    on_progress=partial(self._on_progress, upload.job),
                    name=Path(naming.song_name(upload.key)).stem,
                    stages=stages,
                ).result()
        finally:
            self._separating.release()
        with stages("put"):
            stems = tuple(self._put(fetched.songhash, result))
        track = _track(upload, fetched.songhash, model, result, stems, dict(stages.seconds))
        track = replace(track, options=Asked(options.model or "", options.stems, options.formats))
        before = self._record(fetched.songhash)
        if before and before.model == track.model:
            there = tuple(stem for stem in before.stems if self._storage.has(stem.object, stem.etag))
            track = track.merged(replace(before, stems=there))
        made = self._put_peaks(path.parent, track, result, before)
        self._check(upload.job)
        for stem in stems:
            if not self._storage.has(stem.object, stem.etag):  # after a long pause: they counted as orphans
                raise StorageUnavailable(f"{stem.object} is not there any more")
        self._storage.put_record(replace(track, peaks=made))
        _log.info("separated", extra={**_extra(upload, track), **track.stages_s})
        return track

    def _put(self, songhash: str, result: Result) -> list[Stem]:
        stems = []
        for made in result.stems:
            name = naming.stem_object(songhash, made.stem, made.format)
            size, etag = self._storage.put_stem(name, made.path, FORMATS[made.format])
            stems.append(Stem(made.stem, made.format, name, size, etag, result.gain_db, made.quality))
        return stems

    def _put_peaks(self, folder: Path, track: Track, result: Result, before: Track | None) -> str:
        """Put the waveforms of all stems of the record, also of those that were made earlier; return their object."""
        stems, name = dict(result.peaks), naming.peaks_object(track.songhash)
        if before and before.peaks:
            try:
                answer = self._storage.open(before.peaks)
                try:
                    earlier = peaks.stems_of(answer.read(), result.length)
                finally:
                    answer.release_conn()
            except ObjectGone:
                earlier = {}
            stems = {stem.stem: earlier[stem.stem] for stem in track.stems if stem.stem in earlier} | stems
        path = folder / "peaks.json"
        path.write_bytes(peaks.to_json(result.length, result.sample_rate_hz, stems))
        self._storage.put_stem(name, path, "application/json")
        return name

    def _begin(self, upload: Upload) -> None:
        """Say that the song is in work; not from the thread, since a late word would deny that it is done."""
        try:
            known: dict[str, str | int | float] = {
                "state": "separating",
                "started_ms": jobs.now_ms(),
                "progress": 0,
                "left_s": "",
                "error": "",
            }
            if self._jobs.update(upload.job, **known):
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


def _track(
    upload: Upload, songhash: str, model: Model, result: Result, stems: tuple[Stem, ...], stages_s: Mapping[str, float]
) -> Track:
    return Track(
        songhash=songhash,
        name=naming.song_name(upload.key),
        bucket=upload.bucket,
        key=upload.key,
        upload_etag=upload.etag,
        duration_s=round(result.duration_s, 3),
        sample_rate_hz=model.sample_rate_hz,
        channels=model.channels,
        model=_info(model),
        created_ms=jobs.now_ms(),
        stems=stems,
        stages_s=stages_s,
    )


def _info(model: Model) -> ModelInfo:
    return ModelInfo(model.name, model.digest, precision=model.precision, note=model.note)


def _user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("x-amz-meta-")}


def _extra(upload: Upload, track: Track) -> dict[str, object]:
    return {"key": upload.key, "job": upload.job, "songhash": track.songhash, "model": track.model.name}
