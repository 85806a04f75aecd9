"""The convolutional layers of Hybrid Transformer Demucs, computed in blocks that stay in the processor's cache.

They compute what `HEncLayer`, `HDecLayer` and `DConv` of demucs 4 do, to rounding, in another order: each of the many
element-wise passes goes over a block of 1 to 4 MB instead of over a layer's 33 to 66 MB, channels come last, so that a
convolution of width 1 is one matrix product, and normalisations and scales are folded into the products beside them.

Signals are `Rows`: contiguous tensors (rows, frames, channels). The rows are the frequencies of a spectrogram, or one
row of samples.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from stems.separate import arena

Rows = torch.Tensor

# Samples in a block. Found by trial on cores with 1 MB of second-level cache: half and double are 3 % slower.
_BLOCK = 1 << 17
# Layers with a kernel of 3 rows take larger ones, since they go through twice as many channels at once.
_WIDE_BLOCK = 1 << 18


def blocks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size`, and at least 1, that cover `count`."""
    size = max(size, 1)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


class Residual:
    """`DConv`: two dilated convolutions with their normalisations, gates and scales, each added to its input."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._branches = [_Branch(layers, dtype) for layers in module.layers] if module is not None else []

    @staticmethod
    def supports(module: Any) -> bool:
        """Tell whether the module has no other layers than those that are computed here: no LSTM, no attention."""
        names = ["Conv1d", "GroupNorm", "GELU", "Conv1d", "GroupNorm", "GLU", "LayerScale"]
        return module is None or all([type(each).__name__ for each in layers] == names for layers in module.layers)

    def __call__(self, x: Rows) -> None:
        """Add the branches to `x` in place."""
        for branch in self._branches:
            branch.add_to(x)


class _Branch:
    """One branch of `DConv`: narrow convolution, GroupNorm, GELU, wide convolution, GroupNorm, GLU, LayerScale.

    The wide convolution's output, the largest tensor of a layer, is never normalised: a GroupNorm is an affine map
    whose two figures follow from mean and covariance of the narrow signal, so it goes into the weights, row by row.
    """

    def __init__(self, layers: Any, dtype: torch.dtype) -> None:
        narrow, first, _, wide, second, _, scale = layers
        self._dtype = dtype
        self._dilation = int(narrow.dilation[0])
        self._narrow = channels_last(narrow.weight[:, :, None], dtype)
        self._narrow_bias = narrow.bias.to(dtype)
        self._first_weight, self._first_bias, self._first_eps = first.weight, first.bias, first.eps
        self.channels = wide.out_channels // 2
        weight, bias = wide.weight[:, :, 0].double(), wide.bias.double()
        factor = torch.cat([scale.scale.double(), torch.ones_like(scale.scale).double()])
        self._weight, self._bias = weight.float(), bias.float()
        self._column_mean, self._bias_mean = weight.mean(0).float(), bias.mean().float()
        self._gram = (weight.T @ weight).float()
        self._gain, self._shift = (second.weight * factor).float(), (second.bias * factor).float()
        self._gained = (weight * self._gain[:, None]).T.float()
        self._second_eps = second.eps

    def add_to(self, x: Rows) -> None:
        """Add the branch's output for `x` to it."""
        rows, frames, channels = x.shape
        narrow = functional.conv2d(
            x.permute(2, 0, 1)[None],
            self._narrow,
            self._narrow_bias,
            padding=(0, self._dilation),
            dilation=(1, self._dilation),
        )
        hidden = narrow[0].permute(1, 2, 0).reshape(rows, -1)
        hidden = functional.layer_norm(hidden, hidden.shape[1:], eps=self._first_eps).view(rows, frames, -1)
        hidden = torch.addcmul(self._first_bias, hidden, self._first_weight)
        hidden = gelu_(hidden)
        weights = self._normalised(hidden)
        ones = torch.ones((), dtype=self._dtype).expand(rows, frames, 1)
        hidden = torch.cat([hidden.to(self._dtype), ones], -1)
        value, gate = (half.contiguous() for half in weights.to(self._dtype).chunk(2, -1))
        for block in blocks(frames, _BLOCK // (rows * channels)):
            part = hidden[:, block]
            x[:, block].addcmul_(torch.bmm(part, value), torch.bmm(part, gate).sigmoid_())

    def _normalised(self, hidden: Rows) -> torch.Tensor:
        """Return weights (rows, hidden channels + 1, 2 channels), the last for the bias: convolution and GroupNorm."""
        frames = hidden.shape[1]
        centre = hidden.mean(1, dtype=torch.float32)
        mean = centre @ self._column_mean + self._bias_mean
        spread = hidden - centre[:, None]
        covariance = torch.bmm(spread.transpose(1, 2), spread) / frames
        offset = centre @ self._weight.T + self._bias - mean[:, None]
        variance = (covariance * self._gram).sum((1, 2)) / len(self._weight) + offset.square().mean(1)
        scale = (variance + self._second_eps).rsqrt()
        bias = self._gain * (self._bias - mean[:, None]) * scale[:, None] + self._shift
        return torch.cat([self._gained * scale[:, None, None], bias[:, None]], 1)


class Encoder:
    """`HEncLayer`: a strided convolution along the rows or, in a single row, along the frames; GELU; residual; gate."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._along_rows = bool(module.freq)
        self._stride, self._pad = int(module.stride), int(module.pad)
        weight = module.conv.weight
        self._weight = channels_last(weight if self._along_rows else weight[:, :, None], dtype)
        self._bias = module.conv.bias.to(dtype)
        self._residual = Residual(module.dconv, dtype)
        self._gate = _Gate(module.rewrite, dtype)

    @staticmethod
    def supports(module: Any) -> bool:
        """Tell whether the module is one of those that are computed here."""
        known = type(module).__name__ == "HEncLayer" and not module.empty and module.rewrite is not None
        return (
            known and not _normalises(module) and module.rewrite.kernel_size[0] == 1 and Residual.supports(module.dconv)
        )

    def __call__(self, x: Rows) -> Rows:
        """Return the encoded rows: a `stride`th of the rows, or of the frames."""
        rows, frames, _ = x.shape
        stride, pad = self._stride, self._pad
        if not self._along_rows:
            x = functional.pad(x, (0, 0, 0, -frames % stride))
            y = self._convolve(x, (0, pad), (1, stride))
            return self._finish(y, arena.empty(*y.shape, dtype=y.dtype))
        out = arena.empty(rows // stride, frames, len(self._bias), dtype=x.dtype)
        for block in blocks(len(out), _BLOCK // (frames * len(self._bias))):
            start, stop = block.start * stride - pad, block.stop * stride + pad
            self._finish(self._convolve(_cut(x, start, stop), (0, 0), (stride, 1)), out[block])
        return out

    def _convolve(self, x: Rows, padding: tuple[int, int], stride: tuple[int, int]) -> Rows:
        image = x.permute(2, 0, 1)[None]
        y = functional.conv2d(image, self._weight, self._bias, stride=stride, padding=padding)
        return gelu_(y[0].permute(1, 2, 0))

    def _finish(self, y: Rows, out: Rows) -> Rows:
        self._residual(y)
        return self._gate(y, out)


class _Gate:
    """A convolution of width 1 and the GLU behind it."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        weight = module.weight.flatten(1)
        self._value, self._gate = (half.T.to(dtype).contiguous() for half in weight.chunk(2))
        self._value_bias, self._gate_bias = (half.to(dtype) for half in module.bias.chunk(2))

    def __call__(self, x: Rows, out: Rows) -> Rows:
        """Write the gated rows to `out`, which is returned."""
        rows, frames, channels = x.shape
        for block in blocks(frames, _BLOCK // (rows * channels)):
            part = x[:, block].reshape(-1, channels)
            value = torch.addmm(self._value_bias, part, self._value)
            gate = torch.addmm(self._gate_bias, part, self._gate).sigmoid_()
            torch.mul(value.view(rows, -1, channels), gate.view(rows, -1, channels), out=out[:, block])
        return out


class Decoder:
    """`HDecLayer` behind its skip connection: convolution of width 3, GLU, residual, transposed convolution, GELU."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._along_rows = bool(module.freq)
        self._stride = int(module.stride)
        self._last = bool(module.last)
        weight = module.rewrite.weight
        self._weight = channels_last(weight if self._along_rows else weight[:, :, None], dtype)
        self._bias = module.rewrite.bias.to(dtype)
        self._margin = module.rewrite.kernel_size[0] // 2
        self._residual = Residual(module.dconv, dtype)
        # (in, out, kernel of two strides) -> (in, [early, late] x stride x out)
        spread = module.conv_tr.weight.flatten(2)
        self._channels, self._out_channels = spread.shape[:2]
        self._spread = spread.permute(0, 2, 1).reshape(self._channels, -1).to(dtype).contiguous()
        self._spread_bias = module.conv_tr.bias.to(dtype)

    @staticmethod
    def supports(module: Any) -> bool:
        """Tell whether the module is one of those that are computed here."""
        known = type(module).__name__ == "HDecLayer" and not module.empty and module.rewrite is not None
        if not known or _normalises(module) or module.kernel_size != 2 * module.stride or not module.pad:
            return False
        return len(set(module.rewrite.kernel_size)) == 1 and Residual.supports(module.dconv)

    def __call__(self, x: Rows, skip: Rows | None, length: int = 0) -> Rows:
        """Return the decoded rows: `stride` times as many rows; or as many frames, cut to `length`.

        `x` is what came from the layer before and, by the skip connection, from the encoder, added up. The result is
        added to `skip`, which is returned, where there is one.
        """
        if skip is None:
            return self._made(x, length)
        with arena.scope():
            return skip.add_(self._made(x, length))

    def _made(self, x: Rows, length: int) -> Rows:
        return self._rows(x) if self._along_rows else self._frames(x, length)

    def _rows(self, x: Rows) -> Rows:
        rows, frames, channels = x.shape
        stride, margin = self._stride, self._margin
        out = arena.empty(stride * rows, frames, self._out_channels, dtype=x.dtype)
        cut = stride // 2
        late = x.new_zeros(stride, frames, self._out_channels)
        for block in blocks(rows, _WIDE_BLOCK // (frames * channels)):
            part = _cut(x, block.start - margin, block.stop + margin)
            image = part.permute(2, 0, 1)[None]
            y = self._gated(functional.conv2d(image, self._weight, self._bias, padding=(0, margin)))
            self._residual(y)
            spread = torch.mm(y.view(-1, channels), self._spread).view(len(y), frames, 2, stride, -1)
            early, following = spread.permute(2, 0, 3, 1, 4)
            done = torch.add(early, self._spread_bias, out=x.new_empty(early.shape))
            done[1:] += following[:-1]
            done[0] += late
            late = following[-1].clone()
            done = self._activated(done.view(-1, frames, self._out_channels))
            start = stride * block.start - cut
            out[max(start, 0) : stride * block.stop - cut] = done[max(-start, 0) :]
        out[-cut:] = self._activated(late[:cut] + self._spread_bias)
        return out

    def _frames(self, x: Rows, length: int) -> Rows:
        _, frames, channels = x.shape
        stride, margin = self._stride, self._margin
        y = arena.empty(*x.shape, dtype=x.dtype)
        for block in blocks(frames, _WIDE_BLOCK // channels):
            part = _cut(x[0], block.start - margin, block.stop + margin)
            image = part.T[None, :, None]
            y[:, block] = self._gated(functional.conv2d(image, self._weight, self._bias))
        self._residual(y)
        # One stride of output samples a line, (stride x out) long.
        out = arena.empty(frames + 1, stride * self._out_channels, dtype=x.dtype)
        bias = self._spread_bias.repeat(stride)
        late = x.new_zeros(1, out.shape[1])
        for block in blocks(frames, _WIDE_BLOCK // channels):
            early, following = torch.mm(y[0, block], self._spread).chunk(2, 1)
            done = torch.add(early, bias, out=out[block])
            done[1:] += following[:-1]
            done[:1] += late
            late = following[-1:].clone()
        out[frames:] = late + bias
        cut = stride // 2
        return self._activated(out.view(1, -1, self._out_channels)[:, cut : cut + length])

    def _gated(self, image: torch.Tensor) -> Rows:
        value, gate = image[0].permute(1, 2, 0).chunk(2, -1)
        return torch.mul(value, gate.sigmoid())

    def _activated(self, y: Rows) -> Rows:
        return y if self._last else gelu_(y)


def gelu_(x: torch.Tensor) -> torch.Tensor:
    """Return `x` after GELU in place, for which torch has no public name."""
    changed: torch.Tensor = torch.ops.aten.gelu_(x)
    return changed


def spectra(x: Rows, scale: float, shift: float) -> torch.Tensor:
    """Return complex spectra (channels / 2, frames, frequencies) of `x` (frequencies, frames, channels).

    Pairs of channels are real and imaginary parts, times `scale`, plus `shift`.
    """
    parts = x.float().mul_(scale).add_(shift) if x.dtype != torch.float32 else x.mul(scale).add_(shift)
    return torch.view_as_complex(parts.reshape(*x.shape[:2], -1, 2)).permute(2, 1, 0)


def _cut(x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return x[start:stop], where what is beyond the ends of `x` is 0."""
    part = x[max(start, 0) : stop]
    before, behind = max(-start, 0), max(stop - len(x), 0)
    return functional.pad(part, (*(0, 0) * (x.dim() - 1), before, behind)) if before or behind else part


def channels_last(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the weights of a two-dimensional convolution in the layout that `Rows` ask for."""
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)


def _normalises(module: Any) -> bool:
    norms = [getattr(module, name, None) for name in ("norm1", "norm2")]
    return any(norm is not None and not isinstance(norm, torch.nn.Identity) for norm in norms)
