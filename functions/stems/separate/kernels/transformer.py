"""The transformer layers by our own kernels: what `stems.separate.attention` computes, in a handful of calls."""

import ctypes
import math
from typing import Any

import torch

from stems.separate import arena
from stems.separate.kernels import address, call, moments
from stems.separate.kernels.product import GELU, Product

Tokens = torch.Tensor

# Tokens whose four times as wide hidden layer is in work at once.
_BLOCK = 336
# Channels of a head: `DEPTH` of `tile.h`.
_MOST = 512


class _Arguments(ctypes.Structure):
    """`struct attention`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "out")),
        *((name, ctypes.c_int64) for name in ("bf16", "tokens", "seen", "heads", "width")),
        *((f"{name}_stride", ctypes.c_int64) for name in ("query", "key", "value", "out")),
    ]


def supports(module: Any) -> bool:
    """Tell whether a layer that torch's path computes is computed here, too: its heads have pairs of channels."""
    attention = getattr(module, "cross_attn", None) or module.self_attn
    width = attention.embed_dim // attention.num_heads
    norm = module.norm_out
    return width % 2 == 0 and width <= _MOST and (norm is None or norm.num_groups == 1)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Return what queries (tokens, channels), times log2(e) / sqrt(channels a head), find among keys and values."""
    out = arena.empty(*query.shape, dtype=query.dtype)
    bf16 = query.dtype == torch.bfloat16
    width = query.shape[1] // heads
    arguments = _Arguments(
        query=query.data_ptr(),
        key=key.data_ptr(),
        value=value.data_ptr(),
        out=address(out),
        bf16=bf16,
        tokens=len(query),
        seen=len(key),
        heads=heads,
        width=width,
        query_stride=query.stride(0),
        key_stride=key.stride(0),
        value_stride=value.stride(0),
        out_stride=out.stride(0),
    )
    call("stems_attention", arguments)
    return out


class Attention:
    """A `MyTransformerEncoderLayer`, or a `CrossTransformerEncoderLayer`, which looks at other tokens."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        crosses = hasattr(module, "cross_attn")
        attention = module.cross_attn if crosses else module.self_attn
        self._dtype, self._heads = dtype, int(attention.num_heads)
        self._norm_out = module.norm_out
        weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
        width = weight.shape[1]
        # Softmax by powers of 2, of products that need no factor any more.
        factor = torch.ones(3 * width, dtype=torch.float64)
        factor[:width] = math.log2(math.e) / math.sqrt(width // self._heads)
        weight, bias = weight * factor[:, None], bias * factor
        self._seen = None
        if crosses:
            self._into = _normalised(weight[:width], bias[:width], module.norm1, dtype)
            self._seen = _normalised(weight[width:], bias[width:], module.norm2, dtype)
        else:
            self._into = _normalised(weight, bias, module.norm1, dtype)
        norm = module.norm3 if crosses else module.norm2
        self._out = _scaled(attention.out_proj, module.gamma_1, dtype)
        first = module.linear1
        self._hidden = _normalised(first.weight.double(), first.bias.double(), norm, dtype, GELU)
        self._hidden_width = len(first.weight)
        self._back = _scaled(module.linear2, module.gamma_2, dtype)

    def __call__(self, x: Tokens, seen: Tokens | None = None) -> Tokens:
        """Make `x`, which looks at `seen`, or at itself, the layer's output, and return it."""
        with arena.scope():
            self._attend(x, x if seen is None else seen)
        for start in range(0, len(x), _BLOCK):
            block = x[start : start + _BLOCK]
            with arena.scope():
                self._back(self._made(self._hidden, block, self._hidden_width)[None], block[None], add=True)
        if self._norm_out is not None:
            mean, variance = moments(x)
            factor = self._norm_out.weight / math.sqrt(variance + self._norm_out.eps)
            torch.addcmul(self._norm_out.bias - mean * factor, x, factor, out=x)
        return x

    def _attend(self, x: Tokens, seen: Tokens) -> None:
        """Add to the tokens what they find among those seen."""
        width = x.shape[1]
        if self._seen is None:
            made = self._made(self._into, x, 3 * width)
            query, key, value = (made[:, start : start + width] for start in (0, width, 2 * width))
        else:
            query = self._made(self._into, x, width)
            made = self._made(self._seen, seen, 2 * width)
            key, value = made[:, :width], made[:, width:]
        found = attend(query, key, value, self._heads)
        self._out(found[None], x[None], add=True)

    def _made(self, product: Product, x: Tokens, width: int) -> Tokens:
        out = arena.empty(len(x), width, dtype=self._dtype)
        product(x[None], out[None])
        return out


def _normalised(
    weight: torch.Tensor, bias: torch.Tensor, norm: torch.nn.LayerNorm, dtype: torch.dtype, activation: int = 0
) -> Product:
    """Return the product behind a LayerNorm, whose factors go into it."""
    bias = bias + weight @ norm.bias.double()
    return Product(weight * norm.weight.double(), bias, dtype, activation=activation, normalise=norm.eps)


def _scaled(linear: Any, scale: Any, dtype: torch.dtype) -> Product:
    """Return a linear layer with the LayerScale behind it."""
    factor = getattr(scale, "scale", torch.ones(len(linear.bias))).double()
    return Product(linear.weight.double() * factor[:, None], linear.bias.double() * factor, dtype)
