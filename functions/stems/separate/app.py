"""The function `separate`: one CloudEvent in, one song separated, one CloudEvent out."""

import errno
import hmac
import logging
import threading
import time

from cloudevents.core.v1.event import CloudEvent
from flask import Flask, Response, request
from werkzeug.exceptions import Unauthorized

from stems import jobs, logs, metrics, naming, otel, trace
from stems.config import Settings
from stems.contract import (
    SECRET_HEADER,
    TYPE_DIVIDED,
    TYPE_GONE,
    TYPE_PART_DONE,
    TYPE_SEPARATED,
    Upload,
    reply,
    to_http,
)
from stems.division import Divided, Wanted, from_http
from stems.errors import BadNotification, Cancelled, ObjectGone, StemsError, TransientError
from stems.separate import STARTED_S, kernels
from stems.separate.job import Worker
from stems.separate.work import Stages
from stems.storage import Storage
from stems.web import health, register_metrics, register_problems

_log = logging.getLogger(__name__)

_EVENT_LIMIT = 1 << 20  # bytes; MinIO's records have some 2 KB


class _Warmth:
    """The model, loaded in a thread of its own so that health answers from the first moment."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._done = threading.Event()
        self._error: Exception | None = None
        # Of the first song alone: how long this process took to be ready for it.
        self.news: list[float] = []
        threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def _load(self) -> None:
        try:
            model = self._worker.load_model()
            self.news.append(time.monotonic() - STARTED_S)
            metrics.MODEL_LOAD.set(self.news[0])
            if model.note:
                _log.warning("the model %r is loaded; %s", model.name, model.note)
            else:
                _log.info("the model %r is loaded", model.name)
            for each in filter(None, (model.device.note, model.shortfall)):
                _log.warning(each)
            if model.in_blocks:
                _log.info("it is computed by %s", kernels.described())
        except Exception as error:  # whatever it is, /health/ready and every event must tell of it
            _log.error("the model was not loaded: %s", error, exc_info=not isinstance(error, StemsError))
            self._error = error
        finally:
            self._done.set()

    def check(self) -> None:
        """Raise unless the model is loaded: what stands in its way, or TransientError while nothing does."""
        if not self._done.is_set():
            raise TransientError("the model is being loaded")
        if self._error:
            raise self._error.with_traceback(None)  # each probe would add to it

    def wait(self) -> None:
        """Wait until the model is loaded. Raises TransientError if it cannot be: no fault of the song that waits."""
        self._done.wait()
        if self._error:
            raise TransientError(f"the model was not loaded: {self._error}", retry_after_s=30)


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application; `settings` default to those of the environment. The model loads in the background."""
    if settings is None:
        settings = Settings.from_env()
        logs.configure(settings, "separate", jobs.connect(settings))
        otel.configure(settings, "separate")
        metrics.serve(settings.metrics_port, *metrics.SEPARATE)
    storage = Storage(settings)
    worker = Worker(settings, storage)
    warmth = _Warmth(worker)

    app = Flask(__name__)
    register_problems(app)
    register_metrics(app)
    app.config["MAX_CONTENT_LENGTH"] = _EVENT_LIMIT
    app.register_blueprint(health(warmth.check))

    @app.post("/")
    def separate() -> Response:
        _refuse_strangers(settings.sink_secret)
        asked, place = from_http(dict(request.headers), request.get_data())
        bucket = (asked.upload if isinstance(asked, Wanted) else asked).bucket
        if bucket != naming.QUEUE_BUCKET:
            raise BadNotification(f"an upload to the bucket {bucket!r}; songs come from {naming.QUEUE_BUCKET}")
        with trace.handling(place), trace.span("request", "server", key=asked.key):
            return answer(asked, _places(request.headers.get("ce-stemsplaces", "")))

    def answer(asked: Upload | Wanted, places: int) -> Response:
        started, stages = time.monotonic(), Stages()
        warmth.wait()
        upload = asked.upload if isinstance(asked, Wanted) else asked
        try:
            if isinstance(asked, Wanted):
                worker.make(asked)
                return _answer(reply(TYPE_PART_DONE, upload, {"plan": asked.plan, "name": asked.name}))
            track = worker.do(upload, stages, places)
        except (ObjectGone, Cancelled) as error:  # nothing is to be done, and nothing went wrong
            _log.info("gone: %s", error, extra={"key": upload.key})
            return _answer(reply(TYPE_GONE, upload, {"bucket": upload.bucket, "key": upload.key, "reason": str(error)}))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise TransientError("this worker has no space left for the audio it has in work", 5) from error
        except StemsError as error:
            _log.warning("%s: %s", type(error).__name__, error, extra={"key": asked.key, "job": asked.job})
            raise
        if isinstance(track, Divided):
            return _answer(reply(TYPE_DIVIDED, upload, track.to_dict()))
        response = _answer(reply(TYPE_SEPARATED, upload, track.to_dict()))
        timings_s = {**stages.seconds, metrics.MUSIC: track.duration_s, metrics.TOTAL: time.monotonic() - started}
        if warmth.news:
            timings_s[metrics.START] = warmth.news.pop()
        # The relay counts for us: nobody may look at this pod between now and its end.
        response.headers["Server-Timing"] = ", ".join(f"{name};dur={1000 * s:.0f}" for name, s in timings_s.items())
        return response

    return app


def _refuse_strangers(secrets: tuple[str, ...]) -> None:
    """Raise Unauthorized for who does not know one of the secrets, where there are any."""
    given = request.headers.get(SECRET_HEADER, "").encode()
    known = [hmac.compare_digest(given, secret.encode()) for secret in secrets]
    if secrets and not any(known):
        raise Unauthorized(f"the header {SECRET_HEADER} must be the secret of STEMS_SINK_SECRET")


def _places(given: str) -> int:
    """Return how many workers the relay says have nothing to do; anybody else's word counts as none."""
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 6 else 0


def _answer(event: CloudEvent) -> Response:
    headers, body = to_http(event)
    return Response(body, 200, headers)
