"""The ZIP file: its length, and what other readers make of it."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from stems.tracks import archive
from stems.tracks.archive import Entry

MADE = datetime(2026, 11, 22, 9, 30, 58, tzinfo=UTC)


def made(entries: list[Entry], contents: list[bytes]) -> bytes:
    return b"".join(archive.stream(entries, lambda number: [contents[number]], MADE))


def test_others_read_it_and_its_length_was_known() -> None:
    contents = [b"", b"a", bytes(range(256)) * 1000]
    entries = [Entry(f"Größe/{number} 日本.wav", len(each)) for number, each in enumerate(contents)]
    file = made(entries, contents)
    assert len(file) == archive.length(entries)
    with zipfile.ZipFile(io.BytesIO(file)) as read:
        assert [read.read(entry.name) for entry in entries] == contents
        assert read.infolist()[0].date_time == (2026, 11, 22, 9, 30, 58)


def test_beyond_four_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same structures at a size that a test can read: a reader must take the values from the Zip64 fields.
    monkeypatch.setattr(archive, "_COUNT_LIMIT", 2)
    contents = [b"one", b"two" * 9, b"three"]
    entries = [Entry(f"{number}.wav", len(each)) for number, each in enumerate(contents)]
    file = made(entries, contents)
    assert len(file) == archive.length(entries)
    with zipfile.ZipFile(io.BytesIO(file)) as read:
        assert [read.read(entry.name) for entry in entries] == contents


def test_a_file_of_five_gibibytes_is_told_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what stands around the bytes of big files, without making the bytes."""
    entries = [Entry("a.wav", 5 << 30), Entry("b.wav", 3), Entry("c.wav", 5 << 30)]
    position, kept = 0, []

    def zeros(size: int) -> Iterator[bytes]:
        chunk = bytes(1 << 26)
        for _ in range(size // len(chunk)):
            yield chunk
        if size % len(chunk):
            yield chunk[: size % len(chunk)]

    crc32 = zlib.crc32
    # Ten gibibytes of checksums take a while.
    monkeypatch.setattr(zlib, "crc32", lambda data, value=0: crc32(data, value) if len(data) < 100 else 0)
    for chunk in archive.stream(entries, lambda number: zeros(entries[number].size), MADE):
        position += len(chunk)
        if len(chunk) < 1 << 20:
            kept.append((position - len(chunk), chunk))
    monkeypatch.undo()
    assert position == archive.length(entries)

    class Sparse(io.RawIOBase):
        """The file, with zeros where its big parts are."""

        at = 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = offset + (0, self.at, position)[whence]
            return self.at

        def tell(self) -> int:
            return self.at

        def read(self, size: int = -1) -> bytes:
            size = position - self.at if size < 0 else min(size, position - self.at)
            data = bytearray(size)
            for start, chunk in kept:
                first, last = max(start, self.at), min(start + len(chunk), self.at + size)
                if first < last:
                    data[first - self.at : last - self.at] = chunk[first - start : last - start]
            self.at += size
            return bytes(data)

    with zipfile.ZipFile(Sparse()) as read:
        assert [(info.filename, info.file_size) for info in read.infolist()] == [(e.name, e.size) for e in entries]
        assert read.infolist()[2].header_offset > 5 << 30
        assert read.open("b.wav").read(3) == bytes(3)


def test_bytes_that_are_more_or_fewer_end_it() -> None:
    for body in (b"ab", b"abcd"):
        with pytest.raises(ValueError, match=r"a\.wav has"):
            made([Entry("a.wav", 3)], [body])
