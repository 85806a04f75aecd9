"""What is said to others of a song that ended: the function's reply, for one sink, and callbacks, for who asked."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from stems import naming, trace
from stems.config import Settings
from stems.contract import TYPE_FAILED, TYPE_SEPARATED, Upload, reply
from stems.errors import BadNotification, BadOptions
from stems.options import Options
from stems.reply import Reply
from stems_relay.sink import Answer

_log = logging.getLogger(__name__)

_STRUCTURED = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Callback:
    """A POST to make. `job`: its id in the line; `key`: of the song, for people; `state`: done or failed.

    `own`: the URL is that of STEMS_CALLBACK, not one that came with an upload.
    """

    job: str
    key: str
    url: str
    own: bool
    state: str
    content_type: str
    body: str
    bucket: str
    event_id: str

    @classmethod
    def from_record(cls, job: str, record: Mapping[str, Any]) -> "Callback":
        """Read what `record` wrote. Raises BadNotification."""
        try:
            return cls(job, **record)
        except TypeError as error:
            raise BadNotification(f"not a callback: {error}") from error

    @property
    def record(self) -> Mapping[str, Any]:
        """The callback as plain data, ready for JSON."""
        data = asdict(self)
        del data["job"]
        return data

    @property
    def place(self) -> trace.Place:
        """The beginning of the song's trace."""
        return trace.place(self.event_id, self.bucket)


class News:
    """Makes what is said of songs that ended, as the settings and the songs' own options ask for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def of_done(self, delivery: str, upload: Upload, answer: Answer, *, gone: bool) -> list[Reply | Callback]:
        """Return what is said after the function's answer. Of an upload that is gone, nobody hears but the sink."""
        event = Reply.from_http(delivery, upload.key, answer.headers, answer.body)
        said: list[Reply | Callback] = [event] if event and self._settings.reply_sink else []
        return said if gone else said + self._callbacks(delivery, upload, "done", cache(lambda: _done(upload, event)))

    def of_dead(self, delivery: str, upload: Upload, reason: str) -> list[Reply | Callback]:
        """Return what is said of a dead letter."""

        @cache  # two may be called: both hear the same
        def event() -> tuple[str, str]:
            data = {"bucket": upload.bucket, "key": upload.key, "etag": upload.etag, "reason": reason}
            return _structured(reply(TYPE_FAILED, upload, data).get_attributes(), data)

        return self._callbacks(delivery, upload, "failed", event)

    def _callbacks(
        self, delivery: str, upload: Upload, state: str, event: Callable[[], tuple[str, str]]
    ) -> list[Reply | Callback]:
        """Return the callbacks that are asked for; `event` makes what they say."""

        def callback(whose: str, url: str, content_type: str, body: str) -> Callback:
            identity, own = naming.callback_id(delivery, whose), whose == "all"
            about = (upload.bucket, upload.place.event_id)
            return Callback(identity, upload.key, url, own, state, content_type, body, *about)

        made: list[Reply | Callback] = []
        options = _options(upload)
        if options.callback and options.callback_data is not None:
            made.append(callback("song", options.callback, "application/json", options.callback_data))
        elif options.callback:
            made.append(callback("song", options.callback, *event()))
        if self._settings.callback:
            made.append(callback("all", self._settings.callback, *event()))
        return made


def _options(upload: Upload) -> Options:
    """Return the options of an upload; where they are wrong, which is why it died, none."""
    try:
        return Options.from_metadata(upload.metadata)
    except BadOptions:
        return Options()


def _done(upload: Upload, event: Reply | None) -> tuple[str, str]:
    """Return content type and body of the function's own event; what answers without one has nothing more to tell."""
    if event is not None:
        try:
            read = from_http_event(HTTPMessage(dict(event.headers), event.body))
            return _structured(read.get_attributes(), read.get_data())
        # An edge of the process: K_SINK may be another function, and the SDK raises a different error for each mistake.
        except Exception as error:
            _log.warning("the function's answer is no event that could be called back: %s", error)
    data = {"bucket": upload.bucket, "key": upload.key, "etag": upload.etag}
    return _structured(reply(TYPE_SEPARATED, upload, data).get_attributes(), data)


def _structured(attributes: Mapping[str, Any], data: Any) -> tuple[str, str]:
    """Return content type and body of an event in structured mode: all of it is in the body, and so is signed."""
    times = {name: value.isoformat() for name, value in attributes.items() if isinstance(value, datetime)}
    # In ASCII: a key may have characters that UTF-8 cannot hold.
    return _STRUCTURED, json.dumps({**attributes, **times, "data": data})
