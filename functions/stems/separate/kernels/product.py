"""Matrix products with all that goes on before and after them (`product.h`): linear layers and convolutions."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from stems.separate.kernels import address, call

PLAIN, GELU, GLU = range(3)
_LANES = 16
_ITSELF = ((0, 0, 1),)

# Rows of the output from a step's own, and the first channel there, of so many columns.
Place = tuple[int, int, int]


class Arguments(ctypes.Structure):
    """`struct product`."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("x_bf16", "rows", "frames", "channels", "row_step", "frame_step")),
        ("runs", ctypes.c_void_p),
        ("run_count", ctypes.c_int64),
        ("normalise", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("scale", ctypes.c_float),
        ("packed", ctypes.c_void_p),
        ("bf16", ctypes.c_int64),
        ("bias", ctypes.c_void_p),
        ("groups", ctypes.c_void_p),
        ("group_count", ctypes.c_int64),
        ("activation", ctypes.c_int64),
        ("add", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("out_bf16", "out_rows", "out_row_step", "out_channels")),
        *((name, ctypes.c_int64) for name in ("step_rows", "step_frames", "first_row", "first_out_row")),
    ]


class Product:
    """A weight (columns, depth), laid out for the kernel, with its bias.

    Depth is what `runs` find near a step: (row, first frame, frames) from the step's own, all channels of each.
    `places` say where columns go, in their order. With GLU the second half of the columns are gates. `normalise` is
    the epsilon of a LayerNorm of each step, whose factors are within the weight.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        dtype: torch.dtype,
        *,
        runs: Sequence[tuple[int, int, int]] = _ITSELF,
        places: Sequence[Place] | None = None,
        row_step: int = 1,
        frame_step: int = 1,
        out_row_step: int = 1,
        activation: int = PLAIN,
        normalise: float | None = None,
    ) -> None:
        halves = 2 if activation == GLU else 1
        count = len(weight) // halves
        places = places or [(0, 0, count)]
        self._channels = weight.shape[1] // sum(frames for _, _, frames in runs)
        self._out_channels = max(first + count for _, first, count in places)
        groups, columns = _grouped(places)
        if activation == GLU:
            columns = torch.stack([columns, torch.where(columns < 0, columns, columns + count)], 1)
        # Which column of the weight each packed one is, or -1.
        self.columns = columns.flatten()
        chosen = torch.where(self.columns < 0, len(weight), self.columns)
        self._packed = _packed(functional.pad(weight, (0, 0, 0, 1))[chosen], dtype)
        self.bias = functional.pad(bias, (0, 1))[chosen].float()
        self._runs, self._groups = torch.tensor(runs), torch.tensor(groups)
        self._arguments: dict[str, Any] = {
            "row_step": row_step,
            "frame_step": frame_step,
            "runs": address(self._runs),
            "run_count": len(runs),
            "normalise": normalise is not None,
            "eps": normalise or 0,
            "scale": 1,
            "packed": address(self._packed),
            "bf16": dtype == torch.bfloat16,
            "bias": address(self.bias),
            "groups": address(self._groups),
            "group_count": len(groups),
            "activation": activation,
            "out_row_step": out_row_step,
        }

    def __call__(self, x: torch.Tensor, out: torch.Tensor, *, add: bool = False, **steps: int) -> None:
        """Write to, or add to, `out` (rows, frames, channels) the product with `x` (rows, frames, channels).

        There is a step for each frame of `out` in each of `step_rows`: by default as many as `x` has rows. The first of
        them stands at `first_row` of `x`, and at `first_out_row` of `out`.
        """
        call("stems_product", self.arguments(x, out, add=add, **steps))

    def arguments(
        self,
        x: torch.Tensor,
        out: torch.Tensor,
        *,
        add: bool = False,
        step_rows: int | None = None,
        first_row: int = 0,
        first_out_row: int = 0,
    ) -> Arguments:
        """Return what the kernel is to be called with. It holds no reference to any of the tensors."""
        rows, frames, channels = x.shape
        out_rows, step_frames, out_channels = out.shape
        if x.dtype == torch.bfloat16 and not self._arguments["bf16"]:
            raise ValueError("bfloat16 cannot be multiplied in float32 here")
        if channels != self._channels:
            raise ValueError(f"the weight is for {self._channels} channels, not {channels}")
        if out_channels < self._out_channels:
            raise ValueError(f"the product has {self._out_channels} channels, and {out_channels} are not enough")
        return Arguments(
            x=address(x),
            x_bf16=x.dtype == torch.bfloat16,
            rows=rows,
            frames=frames,
            channels=channels,
            out=address(out),
            out_bf16=out.dtype == torch.bfloat16,
            out_rows=out_rows,
            out_channels=out_channels,
            step_rows=rows if step_rows is None else step_rows,
            step_frames=step_frames,
            first_row=first_row,
            first_out_row=first_out_row,
            add=add,
            **self._arguments,
        )


def _grouped(places: Sequence[Place]) -> tuple[list[Place], torch.Tensor]:
    """Return groups of at most 16 columns, and the columns in each (groups, 16); -1 for those that it lacks."""
    groups, columns, first = [], [], 0
    for row, channel, count in places:
        for start in range(0, count, _LANES):
            size = min(count - start, _LANES)
            groups.append((row, channel + start, size))
            columns.append(list(range(first + start, first + start + size)) + [-1] * (_LANES - size))
        first += count
    return groups, torch.tensor(columns)


def _packed(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return panels of 32 columns, the last of 16 where no more are left: for each word of depth its columns."""
    pair = 2 if dtype == torch.bfloat16 else 1
    weight = functional.pad(weight, (0, weight.shape[1] % pair)).to(dtype)
    words = weight.view(len(weight), -1, pair).transpose(0, 1)
    whole = len(weight) // (2 * _LANES) * 2 * _LANES
    panels = [words[:, start : start + 2 * _LANES] for start in range(0, whole, 2 * _LANES)]
    return torch.cat([panel.flatten() for panel in (*panels, words[:, whole:])])
