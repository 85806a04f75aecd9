"""Spectrograms turned round for the inverse Fourier transform (`spectra.h`)."""

import ctypes

import torch

from stems.separate.kernels import address, call


class _Arguments(ctypes.Structure):
    """`struct spectra`."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("bf16", "frequencies", "frames", "channels")),
        ("scale", ctypes.c_float),
        ("shift", ctypes.c_float),
    ]


def spectra(x: torch.Tensor, scale: float, shift: float) -> torch.Tensor:
    """Return complex spectra (channels / 2, frames, frequencies + 1) of `x` (frequencies, frames, channels).

    Pairs of channels are real and imaginary parts, times `scale`, plus `shift`. The last frequency is 0.
    """
    frequencies, frames, channels = x.shape
    out = torch.empty(channels // 2, frames, frequencies + 1, dtype=torch.complex64)
    arguments = _Arguments(
        x=address(x),
        out=address(out),
        bf16=x.dtype == torch.bfloat16,
        frequencies=frequencies,
        frames=frames,
        channels=channels,
        scale=scale,
        shift=shift,
    )
    call("stems_spectra", arguments)
    return out
