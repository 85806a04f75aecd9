"""One process of the pipeline, started again whenever it dies, until it is held down."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

_LOOK_S = 0.05


class Part:
    """A program and all its children: a process group of its own, which a node that fails takes with it."""

    def __init__(self, name: str, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._command, self._environ = command, {**os.environ, **environ}
        self._process: subprocess.Popen[bytes] | None = None
        self._held = threading.Event()  # cleared: it is to run
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)

    def begin(self) -> None:
        """Start it, and from now on keep it running."""
        self._start()
        if not self._keeper.is_alive():
            self._keeper.start()

    def end(self) -> None:
        """Stop keeping it, and kill it."""
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self.send(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def send(self, number: int) -> None:
        """Send a signal: SIGTERM to the process itself, as a supervisor does, others to its children, too."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._process and self._process.poll() is None:
                (os.kill if number == signal.SIGTERM else os.killpg)(self._process.pid, number)

    def down(self, number: int = signal.SIGKILL) -> None:
        """End it and keep it from being started again."""
        self._held.set()
        self.send(signal.SIGCONT)
        self.send(number)
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.send(signal.SIGKILL)

    def up(self) -> None:
        """Let it run again."""
        self._held.clear()

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        with self._lock, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def _keep(self) -> None:
        while not self._ended.wait(_LOOK_S):
            if not self._held.is_set() and not self.runs:
                self._sweep_group()
                time.sleep(0.2)
                self._start()

    def _sweep_group(self) -> None:
        """Take what is left of the dead one's children along, as the end of a container does."""
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
