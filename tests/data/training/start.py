"""Where the weights start: from a network that lets the mixture through.

With demucs' random start the first hundreds of steps teach the network to reproduce what it hears. Here it does so
before the first step: the outermost encoder carries the spectrum's bins, in pairs of opposite sign so that the GELU
loses nothing, the outermost decoder hands a copy to every source behind a gate of its own (the GLU's), and the
transposed convolution puts the bins back in their places. What is left to learn are the gates.
"""

import math
from typing import Any

import torch

_OPEN = 3.0  # the gate's bias where all is to pass
_AJAR = -1.0  # and where a source is to get its share: about a quarter
_GATES = 0.2  # what the gates' random weights are scaled by, so that at first they stay ajar


@torch.no_grad()
def let_through(network: Any) -> None:
    """Set the outermost layers of an HDemucs so that each source comes out as about a quarter of the mixture.

    Raises ValueError where the network has too few channels to carry all bins of a stride once for each source.
    """
    stride, sources = network.stride, len(network.sources)
    rows = network.audio_channels * (2 if network.cac else 1)
    carried = stride * rows  # numbers in a stride
    if network.channels < max(2, sources) * carried:
        raise ValueError(f"{network.channels} channels cannot carry {carried} numbers for {sources} sources")
    _carry(network.encoder[0], stride, rows, carried)
    if network.freq_emb is not None:
        network.freq_emb.embedding.weight[:, :carried] = 0
    inner = network.decoder[-2]
    for layer in (inner.conv_tr, inner.norm2):  # nothing from further in where the bins are carried
        if hasattr(layer, "weight"):
            layer.weight.transpose(0, min(1, layer.weight.dim() - 1))[:carried] = 0
            layer.bias[:carried] = 0
    _hand_out(network.decoder[-1], stride, rows, carried, sources)


def _carry(layer: Any, stride: int, rows: int, carried: int) -> None:
    """Make channels [0, carried) the bins of a stride, with the help of as many more; the rest stays random."""
    first = (layer.kernel_size - stride) // 2  # the bins of the stride itself, in the middle of the kernel
    convolution, rewrite = layer.conv, layer.rewrite
    convolution.weight[: 2 * carried] = 0
    convolution.bias[: 2 * carried] = 0
    half = rewrite.weight.shape[0] // 2
    for part in (slice(0, carried), slice(half, half + carried)):
        rewrite.weight[part] = 0
        rewrite.bias[part] = 0
    rewrite.bias[half : half + carried] = _OPEN
    scale = 1 + math.exp(-_OPEN)
    for row in range(rows):
        for tap in range(stride):
            channel = row * stride + tap
            convolution.weight[channel, row, first + tap] = 1
            convolution.weight[carried + channel, row, first + tap] = -1
            # gelu(x) - gelu(-x) = x
            rewrite.weight[channel, channel] = scale
            rewrite.weight[channel, carried + channel] = -scale


def _hand_out(layer: Any, stride: int, rows: int, carried: int, sources: int) -> None:
    """Give every source `carried` channels, gated, and from them its rows of the output."""
    first = (layer.kernel_size - stride) // 2
    rewrite, transposed = layer.rewrite, layer.conv_tr
    half, middle = rewrite.weight.shape[0] // 2, rewrite.weight.shape[-1] // 2
    used = sources * carried
    rewrite.weight[:used] = 0
    rewrite.bias[:used] = 0
    rewrite.weight[half:] *= _GATES
    rewrite.bias[half : half + used] = _AJAR
    transposed.weight[:used] = 0
    transposed.bias.zero_()
    for source in range(sources):
        for row in range(rows):
            for tap in range(stride):
                number = row * stride + tap
                channel = source * carried + number
                rewrite.weight[channel, number, middle, middle] = 1
                transposed.weight[channel, source * rows + row, first + tap] = 1
