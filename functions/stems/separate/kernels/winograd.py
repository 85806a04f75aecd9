"""Convolutions of 3 x 3 in float32, with half of the products (`winograd.h`)."""

import ctypes

import torch

from stems.separate.kernels import address, call
from stems.separate.kernels.product import GLU, Arguments, Product

Rows = torch.Tensor

# What each of the six points is of a kernel's three rows: Lavin and Gray 2016, F(4, 3).
_POINTS = [
    [1 / 4, 0, 0],
    [-1 / 6] * 3,
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]


class _Arguments(ctypes.Structure):
    """`struct winograd`."""

    _fields_ = [
        ("products", ctypes.POINTER(Arguments)),
        *((name, ctypes.c_void_p) for name in ("x", "out", "bias")),
        *((name, ctypes.c_int64) for name in ("rows", "frames", "channels", "first_row", "step_rows", "out_channels")),
    ]


class Convolution:
    """A convolution of 3 x 3 with GLU: weight (2 x out channels, in channels, 3 rows, 3 frames)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        order = Product(weight.flatten(1)[:, :0], bias, torch.float32, activation=GLU)
        self._bias, columns = order.bias, order.columns
        zero = torch.zeros(len(columns))
        sums = torch.tensor(_POINTS, dtype=torch.float64) @ weight.double().permute(2, 0, 3, 1).flatten(1)
        self._products = [
            Product(
                torch.where(columns[:, None] < 0, 0, each.unflatten(0, (len(weight), -1))[columns]),
                zero,
                torch.float32,
                runs=[(0, 0, 3)],
            )
            for each in sums
        ]

    def __call__(self, x: Rows, out: Rows, *, step_rows: int, first_row: int) -> None:
        """Write to `out` (rows, frames, out channels) what becomes of `x`: `step_rows` rows from `first_row` on."""
        rows, frames, channels = x.shape
        between = torch.empty(1, 1, len(self._bias))
        products = (Arguments * len(self._products))(*(each.arguments(x[:1], between) for each in self._products))
        arguments = _Arguments(
            products=products,
            x=address(x, torch.float32),
            out=address(out, torch.float32),
            bias=address(self._bias),
            rows=rows,
            frames=frames,
            channels=channels,
            first_row=first_row,
            step_rows=step_rows,
            out_channels=out.shape[2],
        )
        call("stems_winograd", arguments)
