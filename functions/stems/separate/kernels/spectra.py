"""Spectrograms turned round for the inverse Fourier transform (`spectra.h`)."""

import ctypes

import torch

from stems.separate import arena
from stems.separate.kernels import address, call


class _Arguments(ctypes.Structure):
    """`struct spectra`."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("bf16", "frequencies", "frames", "channels", "stride")),
        ("scale", ctypes.c_float),
        ("shift", ctypes.c_float),
    ]


def spectra(x: torch.Tensor, scale: float, shift: float) -> torch.Tensor:
    """Return complex spectra (channels / 2, frames, frequencies + 1) of `x` (frequencies, frames, channels).

    Pairs of channels are real and imaginary parts, times `scale`, plus `shift`. The last frequency is 0. `x` may be
    some of the channels that a tensor has. Raises ValueError where it is anything else that is not contiguous.
    """
    frequencies, frames, channels = x.shape
    stride = x.stride(1)
    if x.stride() != (frames * stride, stride, 1):
        raise ValueError(f"a tensor with the strides {x.stride()} cannot be turned round here")
    out = arena.empty(channels // 2, frames, frequencies + 1, dtype=torch.complex64)
    arguments = _Arguments(
        x=x.data_ptr(),
        out=address(out),
        bf16=x.dtype == torch.bfloat16,
        frequencies=frequencies,
        frames=frames,
        channels=channels,
        stride=stride,
        scale=scale,
        shift=shift,
    )
    call("stems_spectra", arguments)
    return out
