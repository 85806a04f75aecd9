"""The convolutional layers by our own kernels: what `stems.separate.layers` computes, each convolution one product."""

from typing import Any

import torch

from stems.separate import arena
from stems.separate.kernels.branch import Residual
from stems.separate.kernels.product import GELU, GLU, PLAIN, Product
from stems.separate.kernels.winograd import Convolution

Rows = torch.Tensor

# Numbers in a block.
_BLOCK = 1 << 18


class Encoder:
    """`HEncLayer`: a strided convolution along the rows or, in a single row, along the frames; GELU; residual; gate."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._along_rows, self._stride = bool(module.freq), int(module.stride)
        weight, pad = module.conv.weight.flatten(2), int(module.pad)
        self._channels, _, taps = weight.shape
        weight = weight.permute(0, 2, 1).flatten(1)
        bias = module.conv.bias
        if self._along_rows:
            runs = [(tap - pad, 0, 1) for tap in range(taps)]
            self._product = Product(weight, bias, dtype, runs=runs, row_step=self._stride, activation=GELU)
        else:
            runs = [(0, -pad, taps)]
            self._product = Product(weight, bias, dtype, runs=runs, frame_step=self._stride, activation=GELU)
        self._residual = Residual(module.dconv, dtype)
        self._gate = Product(module.rewrite.weight.flatten(1), module.rewrite.bias, dtype, activation=GLU)

    def __call__(self, x: Rows) -> Rows:
        """Return the encoded rows: a `stride`th of the rows, or of the frames."""
        rows, frames, _ = x.shape
        if self._along_rows:
            out = arena.empty(rows // self._stride, frames, self._channels, dtype=x.dtype)
        else:
            out = arena.empty(rows, -(-frames // self._stride), self._channels, dtype=x.dtype)
        high = max(_BLOCK // (out.shape[1] * self._channels), 1)
        for start in range(0, len(out), high):
            block = out[start : start + high]
            self._product(x, block, step_rows=len(block), first_row=start)
            self._residual(block)
            # In place: a step is read before it is written, and no other one reads it.
            self._gate(block, block)
        return out


class Decoder:
    """`HDecLayer` behind its skip connection: convolution of width 3, GLU, residual, transposed convolution, GELU."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._along_rows, self._stride = bool(module.freq), int(module.stride)
        margin = module.rewrite.kernel_size[0] // 2
        heights = range(-margin, margin + 1) if self._along_rows else range(1)
        weight = module.rewrite.weight
        weight = weight.permute(0, 2, 3, 1) if self._along_rows else weight.permute(0, 2, 1)
        runs = [(height, -margin, 2 * margin + 1) for height in heights]
        bias = module.rewrite.bias
        # Float32 has digits to spare for the sums that it takes; bfloat16 has not.
        halved = self._along_rows and margin == 1 and dtype == torch.float32
        self._convolve: Any = (
            Convolution(module.rewrite.weight, bias)
            if halved
            else Product(weight.flatten(1), bias, dtype, runs=runs, activation=GLU)
        )
        self._residual = Residual(module.dconv, dtype)
        # (in, out, kernel of two strides) -> ([row of the stride] x out, [row before, this row] x in)
        spread = module.conv_tr.weight.flatten(2)
        self._channels, self._out_channels = spread.shape[:2]
        spread = spread.unflatten(2, (2, self._stride)).permute(3, 1, 2, 0).flip(2)
        cut = self._stride // 2
        self._spread = Product(
            spread.reshape(self._stride * self._out_channels, -1),
            module.conv_tr.bias.repeat(self._stride),
            dtype,
            runs=[(-1, 0, 1), (0, 0, 1)],
            places=[(row - cut, 0, self._out_channels) for row in range(self._stride)],
            out_row_step=self._stride,
            activation=PLAIN if module.last else GELU,
        )

    def __call__(self, x: Rows, skip: Rows | None, length: int = 0) -> Rows:
        """Return the decoded rows: `stride` times as many rows; or as many frames, cut to `length`.

        `x` is what came from the layer before and, by the skip connection, from the encoder, added up. The result is
        added to `skip`, which is returned, where there is one.
        """
        if self._along_rows:
            shape = self._stride * len(x), x.shape[1], self._out_channels
        else:
            shape = 1, length, self._out_channels
        out = arena.empty(*shape, dtype=x.dtype) if skip is None else skip
        with arena.scope():
            (self._rows if self._along_rows else self._frames)(x, out, skip is not None)
        return out

    def _frames(self, x: Rows, out: Rows, add: bool) -> None:
        y = arena.empty(*x.shape, dtype=x.dtype)
        self._convolve(x, y)
        self._residual(y)
        lines, wide = y.view(-1, 1, self._channels), out.view(-1, 1, self._out_channels)
        self._spread(lines, wide, add=add, step_rows=len(lines) + 1)

    def _rows(self, x: Rows, out: Rows, add: bool) -> None:
        rows, frames, channels = x.shape
        high = max(_BLOCK // (frames * channels) // 4 * 4, 4)
        # The row before the block, and the block: what a row becomes reaches into those that the next one becomes.
        y = arena.empty(1 + high, frames, channels, dtype=x.dtype)
        y[0] = 0
        for start in range(0, rows, high):
            count = min(high, rows - start)
            block = y[1 : 1 + count]
            self._convolve(x, block, step_rows=count, first_row=start)
            self._residual(block)
            last = start + count == rows
            self._spread(y[: 1 + count], out, add=add, step_rows=count + last, first_row=1, first_out_row=start)
            y[0] = y[count]
