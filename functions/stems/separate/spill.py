"""Raw sound on its way to a file, or, once it is longer than the file may be, to the bucket instead.

How long a song is shows when it is decoded. A short one is to be on disk then; a long one must not fill the disk.
"""

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Self, cast

_AHEAD = 16  # so many writes wait for the bucket
_LOOK_S = 0.5


class Spill:
    """A writer of the file `path`. A context manager; where its block raises, nothing is put.

    When more than `limit` bytes came, all of them go to `put` as one stream, in a thread of its own, and the file goes.
    """

    def __init__(self, path: Path, limit: int, put: Callable[[BinaryIO], None]) -> None:
        self._path, self._limit, self._put = path, limit, put
        self._file: BinaryIO = path.open("w+b")
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="spill")
        self._putting: Future[None] | None = None
        self._left = b""

    @property
    def over(self) -> bool:
        """Tell whether the sound is longer than the file may be."""
        return self._putting is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self._putting:
                self._hand_over(None if kind else b"")
                if not kind:
                    self._putting.result()
        finally:
            self._pool.shutdown()
            self._file.close()
            if self._putting:
                self._path.unlink(missing_ok=True)

    def write(self, data: bytes, /) -> None:
        """Take the next bytes. Raises what `put` raises."""
        if self._putting:
            self._hand_over(data)
            return
        self._file.write(data)
        if self._file.tell() > self._limit:
            self._file.seek(0)
            self._putting = self._pool.submit(self._put, cast(BinaryIO, self))

    def _hand_over(self, data: bytes | None) -> None:
        assert self._putting
        while True:
            try:
                self._queue.put(data, timeout=_LOOK_S)
                return
            except queue.Full:
                if self._putting.done():  # it failed: nobody takes anything any more
                    if data:
                        self._putting.result()
                    return

    def read(self, size: int = -1) -> bytes:
        """Read like a file: first what it holds, then what is written. For `put`."""
        if data := self._file.read(size):
            return data
        if not self._left:
            found = self._queue.get()
            if found is None:
                raise OSError("the sound came to an end too early")
            if not found:
                self._queue.put(b"")  # whoever asks again
            self._left = found
        data, self._left = self._left[:size], self._left[size:]
        return data
