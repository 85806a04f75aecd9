"""Where a worker computes: one thing at a time, in one thread, with the models that it has loaded."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

from stems import metrics
from stems.config import Settings
from stems.errors import Busy
from stems.separate import model as models
from stems.separate.device import choose
from stems.separate.model import Model

# How long a song waits for one whose caller is gone: after a relay died, say. A request that waits counts as work, so
# that Knative adds pods, where a 429 a second would look like idleness and hold up the line.
_TURN_S = 20.0

P = ParamSpec("P")
T = TypeVar("T")


class Workbench:
    """Computes; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._taken = threading.Lock()
        # One thread for all separations: whichever thread has once computed keeps 170 MB of torch's from then on.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="separate")
        # The worker's own model stays; beside it, the one that an upload asked for last.
        self._own = cache(lambda: self._load(settings.model))
        self._other = lru_cache(maxsize=1)(self._load)
        self._device = cache(lambda: choose(settings.device))

    def _load(self, name: str) -> Model:
        settings = self._settings
        return models.load(name, Path(settings.model_dir), settings.precision, self._device())

    def model(self, name: str | None = None) -> Model:
        """Return a model, by default the worker's own, loaded once. Raises BadOptions, ModelUnavailable."""
        return self._own() if name in (None, self._settings.model) else self._other(name)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the bench for oneself. Raises Busy."""
        if not self._taken.acquire(timeout=_TURN_S):
            raise Busy("this worker is separating another song", retry_after_s=1)
        try:
            with metrics.IN_WORK.track_inprogress():
                yield
        finally:
            self._taken.release()

    def computing(self, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Do it in the thread that computes."""
        # In our context: the log names the event, the stages are spans of its trace.
        context = copy_context()
        return self._thread.submit(lambda: context.run(work, *given, **named)).result()
