"""Loaded libraries: most of what is read of them to load them is of no use later.

Loading torch reads 220 MiB of its libraries' files, and a song needs a fifth of that. What is let go of comes back
from the system's cache by itself, where it is used.
"""

import ctypes
import mmap
from collections.abc import Iterator

# From <elf.h>.
_PT_LOAD, _PT_DYNAMIC, _PF_W = 1, 2, 2
_DT_TEXTREL, _DT_FLAGS, _DF_TEXTREL = 22, 30, 4


class _Segment(ctypes.Structure):
    """Elf64_Phdr of <elf.h>."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("in_file", ctypes.c_uint64),
        ("in_memory", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
    )


class _Loaded(ctypes.Structure):
    """The head of dl_phdr_info of <link.h>."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("count", ctypes.c_uint16),
    )


_Each = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Loaded), ctypes.c_size_t, ctypes.c_void_p)


def release() -> None:
    """Let go of what is mapped of libraries as it stands in their files; nothing where the C library tells of none."""
    # Held by Python's lock all the while: no library comes or goes.
    library = ctypes.PyDLL(None)
    if not hasattr(library, "dl_iterate_phdr"):
        return
    found: list[tuple[int, int]] = []

    def add(loaded: "ctypes._Pointer[_Loaded]", _size: int, _data: int | None) -> int:
        found.extend(_unwritten(loaded.contents))
        return 0  # go on

    library.dl_iterate_phdr(_Each(add), None)
    for start, end in found:
        # A failure costs nothing: the pages stay.
        library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _unwritten(loaded: _Loaded) -> Iterator[tuple[int, int]]:
    """Yield where whole pages of a library begin and end that are as they stand in its file, whatever was done."""
    segments = loaded.segments[: loaded.count]
    if b"/" not in (loaded.name or b"") or any(_patches_text(loaded.base, each) for each in segments):
        return
    for segment in segments:
        start = loaded.base + segment.address
        first, end = -(-start & -mmap.PAGESIZE), (start + segment.in_file) & -mmap.PAGESIZE
        if segment.type == _PT_LOAD and not segment.flags & _PF_W and first < end:
            yield first, end


def _patches_text(base: int, segment: _Segment) -> bool:
    """Tell whether the library was written to where it is not writable, when it was loaded: hardly any is today."""
    if segment.type != _PT_DYNAMIC:
        return False
    entries = (ctypes.c_int64 * (segment.in_memory // 8)).from_address(base + segment.address)
    tags = dict(zip(entries[::2], entries[1::2], strict=True))
    return _DT_TEXTREL in tags or bool(tags.get(_DT_FLAGS, 0) & _DF_TEXTREL)
