"""Our own kernels: the products of Hybrid Transformer Demucs in C, for processors with 512 bit wide vectors.

The library is compiled when the package is installed (`hatch_build.py`), where the machine is one that could run it.
Where it is missing, or the processor lacks what a kind of product needs, torch computes: `torch_alone` is for tests.
Calls compute in the thread that calls, without Python's lock.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from stems.separate.kernels import sources

LIBRARY = Path(__file__).with_name("kernels.so")
# As Linux names them. A processor with AMX multiplies bfloat16 several times faster still, by way of torch's oneDNN.
_VECTORS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"}
_BFLOAT16, _BETTER = "avx512_bf16", "amx_bf16"
_BFLOAT16_BY_ANY = {_BFLOAT16, _BETTER, "bf16", "svebf16"}  # the last two on ARM
NO_BFLOAT16 = "this processor has no instructions for bfloat16"

_off = False


def usable(dtype: torch.dtype) -> bool:
    """Tell whether products of this type are computed here by the kernels."""
    features = _features()
    if _off or not features >= _VECTORS or library() is None:
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and _BFLOAT16 in features and _BETTER not in features)


def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16; where it does not, float32 is faster."""
    return not _features().isdisjoint(_BFLOAT16_BY_ANY)


def described() -> str:
    """Tell what computes Hybrid Transformer Demucs on this machine."""
    return _computing() if has_bfloat16() else f"{_computing()}; exactly in any case, as {NO_BFLOAT16}"


def _computing() -> str:
    if library() is None:
        stale = "the kernels are of another version: run `make setup`"
        return f"torch: {stale if _compiled() else 'no kernels were compiled for this machine'}"
    types = [name for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)) if usable(dtype)]
    if not types:
        return "torch: the processor lacks AVX-512"
    others = ", torch in bfloat16" if len(types) == 1 and has_bfloat16() else ""
    return f"our kernels (AVX-512) in {' and '.join(types)}{others}"


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled library; None where there is none for this machine, or one of other sources than these."""
    found = _compiled()
    if found is None or _sources_of(found) != sources.digest(LIBRARY.parent):
        return None
    return found


def _compiled() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None


def _sources_of(library: ctypes.CDLL) -> str:
    """Return the digest of the sources that a library was made of; empty for one that is too old to tell."""
    try:
        told: Any = library.stems_sources
    except AttributeError:
        return ""
    told.restype = ctypes.c_char_p
    return bytes(told()).decode()


def call(name: str, arguments: ctypes.Structure) -> None:
    """Call a function of the library. Raises MemoryError where it gets no memory."""
    if _function(name)(ctypes.byref(arguments)) != 0:
        raise MemoryError(f"{name}: no memory for a block")


def moments(x: torch.Tensor) -> tuple[float, float]:
    """Return mean and variance (of the numbers, not of what they are samples of) of a tensor of float32."""
    found = (ctypes.c_double * 2)()
    _function("stems_moments")(ctypes.c_void_p(address(x, torch.float32)), ctypes.c_int64(x.numel()), found)
    return found[0], found[1]


def release() -> None:
    """Let go of pages of libraries that were read but once, to load them (`libraries.h`); nothing without kernels."""
    if usable(torch.float32):
        _function("stems_release")()


def address(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> Any:
    """Return where the numbers of a tensor begin.

    Raises ValueError where they are not one after another, or of another type.
    """
    if not tensor.is_contiguous() or (dtype is not None and tensor.dtype != dtype):
        raise ValueError(f"a tensor of {tensor.dtype} with the strides {tensor.stride()} cannot be computed with here")
    return tensor.data_ptr()


def _function(name: str) -> Any:
    return getattr(library(), name)


@contextmanager
def torch_alone() -> Iterator[None]:
    """Make networks within this block as on a machine without the library."""
    global _off
    _off, before = True, _off
    try:
        yield
    finally:
        _off = before


@cache
def _features() -> frozenset[str]:
    """Return what this processor can do, in Linux' names; nothing under another system."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.split())
