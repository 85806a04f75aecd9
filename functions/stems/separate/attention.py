"""The transformer layers of Hybrid Transformer Demucs: those of `demucs.transformer`, with scales folded into weights.

Their attention goes by blocks (`scaled_dot_product_attention`), so the weights between all frames, 231 MB in a layer,
are never in memory; torch's own fast path for such layers writes them out. Tokens are tensors (tokens, channels).
"""

from typing import Any

import torch
from torch.nn import functional

from stems.separate.layers import blocks, gelu_

Tokens = torch.Tensor

# Tokens whose four times as wide hidden layer is in work at once.
_BLOCK = 336


class Attention:
    """A `MyTransformerEncoderLayer`, or a `CrossTransformerEncoderLayer`, which looks at other tokens."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._crosses = hasattr(module, "cross_attn")
        attention = module.cross_attn if self._crosses else module.self_attn
        self._heads, self._dtype = int(attention.num_heads), dtype
        self._norm, self._norm_seen = module.norm1, module.norm2
        self._norm_hidden = module.norm3 if self._crosses else module.norm2
        self._norm_out = module.norm_out
        self._into = attention.in_proj_weight.to(dtype)
        self._into_bias = attention.in_proj_bias.to(dtype)
        self._out, self._out_bias = _scaled(attention.out_proj, module.gamma_1, dtype)
        self._hidden, self._hidden_bias = module.linear1.weight.to(dtype), module.linear1.bias.to(dtype)
        self._back, self._back_bias = _scaled(module.linear2, module.gamma_2, dtype)

    @staticmethod
    def supports(module: Any) -> bool:
        """Tell whether the module is one of those that are computed here."""
        attention = getattr(module, "cross_attn", None) or module.self_attn
        norms = [module.norm1, module.norm2, *([module.norm3] if hasattr(module, "norm3") else [])]
        return (
            type(attention).__name__ == "MultiheadAttention"
            and attention.in_proj_weight is not None
            and module.norm_first
            and not module.sparse
            and module.activation is functional.gelu
            and all(isinstance(norm, torch.nn.LayerNorm) for norm in norms)
        )

    def __call__(self, x: Tokens, seen: Tokens | None = None) -> Tokens:
        """Return the layer's output for `x`, which looks at `seen`, or at itself."""
        own = self._norm(x).to(self._dtype)
        other = own if seen is None else self._norm_seen(seen).to(self._dtype)
        query, key, value = (self._projected(tokens, index) for index, tokens in enumerate((own, other, other)))
        found = functional.scaled_dot_product_attention(query, key, value)
        x = x + self._out_bias
        _add_product(x, found.transpose(1, 2).reshape(x.shape), self._out)
        normalised = self._norm_hidden(x).to(self._dtype)
        x += self._back_bias
        for block in blocks(len(x), _BLOCK):
            hidden = functional.linear(normalised[block], self._hidden, self._hidden_bias)
            _add_product(x[block], gelu_(hidden), self._back)
        return x if self._norm_out is None else self._norm_out(x[None])[0]

    def _projected(self, tokens: Tokens, index: int) -> torch.Tensor:
        """Return queries (index 0), keys (1) or values (2): (1, heads, tokens, channels a head)."""
        width = tokens.shape[-1]
        part = slice(index * width, (index + 1) * width)
        made = functional.linear(tokens, self._into[part], self._into_bias[part])
        # Contiguous: attention is a tenth faster than on strided ones.
        return made.view(1, len(tokens), self._heads, -1).transpose(1, 2).contiguous()


def _scaled(linear: Any, scale: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (in, out) and bias of a linear layer with the LayerScale behind it."""
    factor = getattr(scale, "scale", torch.ones(()))
    return (linear.weight.T * factor).to(dtype).contiguous(), linear.bias * factor


def _add_product(x: Tokens, y: Tokens, weight: torch.Tensor) -> None:
    """Add y @ weight to `x`, in place."""
    if y.dtype == x.dtype:
        x.addmm_(y, weight)
    else:
        x += torch.mm(y, weight)
