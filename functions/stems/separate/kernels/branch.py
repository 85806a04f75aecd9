"""`DConv` by our own kernels (`branch.h`): two dilated convolutions, each with its normalisations, gate and scale."""

import ctypes
from typing import Any

import torch

from stems.separate.kernels import address, call
from stems.separate.kernels.product import GLU, Arguments, Product

Rows = torch.Tensor


class _Arguments(ctypes.Structure):
    """`struct branch`."""

    _fields_ = [
        ("narrow", ctypes.POINTER(Arguments)),
        ("wide", ctypes.POINTER(Arguments)),
        ("x", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("rows", "frames", "hidden", "columns")),
        ("first_eps", ctypes.c_float),
        ("second_eps", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("first_weight", "first_bias", "weight", "bias", "gram")),
        *((name, ctypes.c_void_p) for name in ("gain", "shift", "places")),
        ("place_count", ctypes.c_int64),
    ]


class Residual:
    """`DConv`: its branches, each added to its input."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._branches = [_Branch(layers, dtype) for layers in module.layers] if module is not None else []

    def __call__(self, x: Rows) -> None:
        """Add the branches to `x` in place."""
        for branch in self._branches:
            branch.add_to(x)


class _Branch:
    def __init__(self, layers: Any, dtype: torch.dtype) -> None:
        narrow, first, _, wide, second, _, scale = layers
        dilation = int(narrow.dilation[0])
        taps = narrow.weight.shape[-1]
        margin = taps // 2 * dilation
        runs = [(0, -margin, taps)] if dilation == 1 else [(0, tap * dilation - margin, 1) for tap in range(taps)]
        self._narrow = Product(narrow.weight.permute(0, 2, 1).flatten(1), narrow.bias, dtype, runs=runs)
        weight = wide.weight[:, :, 0].double()
        factor = torch.cat([scale.scale.double(), torch.ones_like(scale.scale).double()])
        gain = second.weight.double() * factor
        self._wide = Product(weight * gain[:, None], wide.bias, dtype, activation=GLU)
        self._hidden = weight.shape[1]
        self._kept = {
            "first_weight": first.weight.contiguous(),
            "first_bias": first.bias.contiguous(),
            "weight": weight.T.contiguous(),
            "bias": wide.bias.double(),
            "gram": weight.T @ weight,
            "gain": gain,
            "shift": second.bias.double() * factor,
            "places": self._wide.columns,
        }
        self._arguments: dict[str, Any] = {
            "hidden": self._hidden,
            "columns": len(weight),
            "first_eps": first.eps,
            "second_eps": second.eps,
            "place_count": len(self._wide.columns),
            **{name: address(tensor) for name, tensor in self._kept.items()},
        }

    def add_to(self, x: Rows) -> None:
        """Add the branch's output for `x` to it."""
        rows, frames, _ = x.shape
        row = x[:1]
        # Stand for what the kernel has memory of its own for: sums are float32, what is multiplied is as `x` is.
        sums, factors = (torch.empty(1, frames, self._hidden, dtype=dtype) for dtype in (torch.float32, x.dtype))
        arguments = _Arguments(
            narrow=ctypes.pointer(self._narrow.arguments(row, sums)),
            wide=ctypes.pointer(self._wide.arguments(factors, row, add=True)),
            x=address(x),
            rows=rows,
            frames=frames,
            **self._arguments,
        )
        call("stems_branch", arguments)
