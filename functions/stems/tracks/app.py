"""The Flask application. Started as `gunicorn --config …/gunicorn.conf.py 'stems.tracks.app:create_app()'`."""

from flask import Flask, Response, jsonify

from stems import __version__, jobs, logs, metrics, web
from stems.config import Settings
from stems.index import Index
from stems.storage import Storage
from stems.tracks import download, library, line
from stems.tracks import page as pages

_ROUTES = {
    "tracks": "/v1/tracks{?limit,cursor}",
    "track": "/v1/tracks/{songhash}",
    "stem": "/v1/tracks/{songhash}/{stem}{?redirect}",
    "queue": "/v1/queue{?limit}",
    "live": "/health/live",
    "ready": "/health/ready",
}


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application.

    Without `settings` they are read from the environment and logging is configured: then this is the entry point
    of the process. Raises ConfigError. Nothing is connected yet: MinIO and Redis may come later.
    """
    entry_point = settings is None
    settings = settings or Settings.from_env()
    client = jobs.connect(settings)
    if entry_point:
        logs.configure(settings, "tracks", client)
        metrics.serve(settings.metrics_port, *metrics.FUNCTION)
    storage = Storage(settings)

    def ready() -> None:
        storage.ping()
        with jobs.translated():
            client.ping()

    app = Flask("stems.tracks", static_folder=None)
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    web.register_problems(app)
    web.register_metrics(app)
    app.register_blueprint(web.health(ready))
    app.register_blueprint(library.routes(Index(client, storage), storage))
    app.register_blueprint(download.routes(storage))
    app.register_blueprint(line.routes(jobs.Jobs(client)))

    page = pages.Page(pages.storage_url(settings))
    app.register_blueprint(pages.routes(page))

    @app.get("/")
    def home() -> Response:
        if pages.is_asked_for():
            return page.index()
        response = jsonify(name="stems", version=__version__, routes=_ROUTES)
        response.vary.add("Accept")
        return response

    return app
