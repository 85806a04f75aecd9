"""The Flask application. Started as `gunicorn --config …/gunicorn.conf.py 'stems.tracks.app:create_app()'`."""

from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix

from stems import jobs, logs, metrics, web
from stems.config import Settings
from stems.index import Index
from stems.storage import Storage
from stems.tracks import (
    api,
    classic,
    docs,
    download,
    events,
    gate,
    headers,
    home,
    library,
    line,
    models,
    page,
    session,
    uploads,
)
from stems.tracks.hub import Hub
from stems.tracks.intake import Intake
from stems.tracks.limits import DOWNLOADS, UPLOADS, Transfers
from stems.tracks.removal import Removal


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
    storage, intake, queue = Storage(settings), Intake(settings), jobs.Jobs(client)
    index, hub = Index(client, storage), Hub()
    removal = Removal(client, storage, index, intake)

    def ready() -> None:
        storage.ping()
        with jobs.translated():
            client.ping()

    app = Flask("stems.tracks", static_folder=None)
    if settings.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=0)  # type: ignore[method-assign]
    app.json = web.Json(app)
    web.register_problems(app)
    web.register_metrics(app)

    @app.errorhandler(BlockingIOError)  # see gunicorn.conf.py; elsewhere nothing is read without waiting
    def on_stalled_client(error: BlockingIOError) -> Response:
        return web.problem(408, "Request Timeout", "the body ended early: nothing of it came for a minute")

    gate.register(app, settings)
    headers.register(app, settings.cors_origins)
    app.register_blueprint(web.health(ready))
    document = api.register(
        app,
        library.routes(index, storage, queue, intake, removal),
        download.routes(storage, Transfers("downloads", DOWNLOADS)),
        uploads.routes(queue, intake, Transfers("uploads", UPLOADS), settings.max_upload_bytes),
        line.routes(queue, storage, intake),
        events.routes(events.Reader(client, queue, index, hub), hub),
        models.routes(index, settings.model),
        session.routes(),
    )
    app.register_blueprint(classic.routes(storage, queue, index, intake, removal, settings.apiv1_max_mb * 1_000_000))
    app.register_blueprint(docs.routes(document))
    app.register_blueprint(home.routes(document, page.Page(page.storage_url(settings))))
    return app
