"""Hybrid Transformer Demucs (Rouard, Massa, Défossez 2023), put together of the layers that stay in the cache.

What `demucs.htdemucs.HTDemucs.forward` computes, to rounding: more than 110 dB below the signal in float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from demucs.hdemucs import pad1d
from demucs.htdemucs import HTDemucs
from demucs.spec import spectro
from demucs.transformer import create_2d_sin_embedding, create_sin_embedding
from torch.nn import functional

from stems.separate import arena, attention, kernels, layers, memory
from stems.separate.branches import Begin, branches
from stems.separate.kernels import layers as own_layers
from stems.separate.kernels import spectra as own_spectra
from stems.separate.kernels import transformer as own_transformer
from stems.separate.kernels.product import Product
from stems.separate.layers import Rows

# Real and imaginary parts whose spectra are in memory at once: a quarter of htdemucs' four stems.
_TURNED = 4


@dataclass(frozen=True, slots=True)
class Types:
    """What the products are computed in; sums, normalisations and spectra are float32 in any case."""

    transformer: torch.dtype
    convolutions: torch.dtype


class Hybrid:
    """A trained `HTDemucs`, whose products are computed in `types`.

    `by_kernels`: any of them by our kernels, which have no threads of their own; torch gets one of each branch then.
    """

    def __init__(self, module: HTDemucs, types: Types) -> None:
        net: Any = module
        dtype = self._dtype = types.convolutions
        self.by_kernels = kernels.usable(types.transformer) or kernels.usable(types.convolutions)
        self._sources, self._nfft, self._hop = len(net.sources), int(net.nfft), int(net.hop_length)
        self._length = int(net.segment * net.samplerate) if net.use_train_segment else None
        own = kernels.usable(dtype)
        made: Any = own_layers if own else layers
        self._encoders, self._time_encoders = (
            [made.Encoder(each, dtype) for each in encoders] for encoders in (net.encoder, net.tencoder)
        )
        self._decoders, self._time_decoders = (
            [made.Decoder(each, dtype) for each in decoders] for decoders in (net.decoder, net.tdecoder)
        )
        embedding = getattr(net, "freq_emb", None)
        self._frequencies = None if embedding is None else net.freq_emb_scale * embedding.weight
        self._middle = None if net.crosstransformer is None else _Middle(net, types)
        self._spectra = own_spectra.spectra if own else layers.spectra
        self._window = torch.hann_window(self._nfft)

    @staticmethod
    def supports(module: Any) -> bool:
        """Tell whether the network is one of those that are computed here."""
        if type(module) is not HTDemucs or not module.cac:
            return False
        encoders, decoders = [*module.encoder, *module.tencoder], [*module.decoder, *module.tdecoder]
        if len(module.encoder) != len(module.tencoder):
            return False
        middle = module.crosstransformer is None or _Middle.supports(module.crosstransformer)
        return middle and all(map(layers.Encoder.supports, encoders)) and all(map(layers.Decoder.supports, decoders))

    def valid_length(self, length: int) -> int:
        """Return the samples to be given for a segment of `length`: a context of the song beyond its ends."""
        return length if self._length is None else self._length

    def __call__(self, mix: torch.Tensor) -> torch.Tensor:
        """Return the stems (1, sources, channels, samples) of `mix` (1, channels, samples).

        Our kernels use two of torch's threads, if it has them, one for each branch: to the same samples.
        """
        with branches(self.by_kernels) as begin, arena.scope():
            return self._stems(mix[0], begin)[None]

    def _stems(self, mix: torch.Tensor, begin: Begin) -> torch.Tensor:
        length = mix.shape[-1]
        time_encoded = begin(lambda: self._time_encoded(mix))
        x, mean, deviation = _standardised(self._to_rows(mix))
        x = self._encoders[0](x.to(self._dtype))
        if self._frequencies is not None:
            x += self._frequencies[:, None].to(x.dtype)
        time_skips, time_mean, time_deviation = time_encoded()
        with arena.scope():
            skips = [x, *_encoded(x, self._encoders[1:])]
            x, xt = skips[-1], time_skips[-1]
            if self._middle is not None:
                self._tidy()
                x, xt = self._middle(x, xt, begin)
            time_decoded = begin(lambda: self._time_decoded(xt, time_skips, length))
            # Sums in place: what a skip connection holds is of use no more.
            x = skips.pop().add_(x)
            for decode in self._decoders[:-1]:
                x = decode(x, skips.pop())
        self._tidy()
        with arena.scope():
            x = self._decoders[-1](x, None)
            stems = torch.empty(x.shape[2] // 2, length)
            for first in range(0, x.shape[2], _TURNED):
                with arena.scope():
                    spectra = self._spectra(x[..., first : first + _TURNED], deviation, mean)
                    self._to_samples(spectra, stems[first // 2 : first // 2 + len(spectra)])
        stems.add_(time_decoded()[0].T, alpha=time_deviation).add_(time_mean)
        return stems.view(self._sources, -1, length)

    def _time_encoded(self, mix: torch.Tensor) -> tuple[list[Rows], float, float]:
        x, mean, deviation = _standardised(mix.T[None].clone(memory_format=torch.contiguous_format))
        return _encoded(x.to(self._dtype), self._time_encoders), mean, deviation

    def _time_decoded(self, x: Rows, skips: list[Rows], length: int) -> Rows:
        lengths = [length, *(each.shape[1] for each in skips[:-1])]
        x = skips.pop().add_(x)
        for decode in self._time_decoders:
            x = decode(x, skips.pop() if skips else None, lengths.pop())
        return x

    def _tidy(self) -> None:
        """Before a step that needs much memory, give back what torch's operators left in pieces; kernels leave none."""
        if not self.by_kernels:
            memory.give_back()

    def _to_rows(self, mix: torch.Tensor) -> Rows:
        """Return the spectrum of `mix` (channels, samples) as rows, with real and imaginary parts as channels.

        `HTDemucs._spec`: as many frames as strides begun, their middles half a stride behind the strides' beginnings.
        """
        frames = -(-mix.shape[-1] // self._hop)
        margin = self._hop // 2 * 3
        padded = pad1d(mix, (margin, margin + frames * self._hop - mix.shape[-1]), "reflect")
        rows = torch.empty(self._nfft // 2, frames, len(mix), 2)
        for index, channel in enumerate(padded):  # one by one: half of the memory
            spectrum = spectro(channel, self._nfft, self._hop)  # type: ignore[no-untyped-call]
            rows[:, :, index] = torch.view_as_real(spectrum[:-1, 2 : 2 + frames])
        return rows.flatten(2)

    def _to_samples(self, spectra: torch.Tensor, out: torch.Tensor) -> None:
        """Write to `out` the samples (stems x channels, length) of spectra (stems x channels, frames, frequencies).

        The inverse of `_to_rows`: frames overlap four times, and the squares of their Hann windows add up to 3/2.
        """
        frames = spectra.shape[1]
        window = self._window * (math.sqrt(self._nfft) / 1.5)
        start = self._hop // 2 * 3
        for spectrum, samples in zip(spectra, out, strict=True):
            quarters = torch.fft.irfft(spectrum, n=self._nfft).mul_(window).view(frames, 4, self._hop)
            added = torch.zeros(frames + 3, self._hop)
            for index in range(4):
                added[index : index + frames] += quarters[:, index]
            samples.copy_(added.view(-1)[start : start + len(samples)])


class _Middle:
    """The transformer between encoders and decoders, with the channels made fewer or more on its way in and out."""

    def __init__(self, net: Any, types: Types) -> None:
        dtype = types.transformer
        transformer = net.crosstransformer
        self._max_period, self._weight = transformer.max_period, transformer.weight_pos_embed
        self._parity = transformer.classic_parity
        self._norms = transformer.norm_in, transformer.norm_in_t
        own = kernels.usable(dtype) and all(map(own_transformer.supports, [*transformer.layers, *transformer.layers_t]))
        layer_of: Any = own_transformer.Attention if own else attention.Attention
        self._layers = [
            (layer_of(layer, dtype), layer_of(time_layer, dtype))
            for layer, time_layer in zip(transformer.layers, transformer.layers_t, strict=True)
        ]
        names = ("channel_upsampler", "channel_upsampler_t", "channel_downsampler", "channel_downsampler_t")
        self._resamplers = [
            _resampler(getattr(net, name) if net.bottom_channels else None, types.convolutions) for name in names
        ]
        self._dtype = types.convolutions

    @staticmethod
    def supports(transformer: Any) -> bool:
        """Tell whether the transformer is one of those that are computed here."""
        plain = transformer.emb == "sin" and not transformer.sin_random_shift
        return plain and all(map(attention.Attention.supports, [*transformer.layers, *transformer.layers_t]))

    def __call__(self, x: Rows, xt: Rows, begin: Begin) -> tuple[Rows, Rows]:
        """Return what becomes of the rows of both branches."""
        rows, frames, _ = x.shape
        up, time_up, down, time_down = self._resamplers
        tokens = up(x.transpose(0, 1).reshape(rows * frames, -1).float())
        time_tokens = time_up(xt[0].float())
        width = tokens.shape[-1]
        places = create_2d_sin_embedding(width, rows, frames, "cpu", self._max_period)[0]  # type: ignore[no-untyped-call]
        time_places = create_sin_embedding(len(time_tokens), width, 0, "cpu", self._max_period)[:, 0]
        norm, time_norm = self._norms
        tokens = norm(tokens[None]).reshape(frames, rows, width).add(places.permute(2, 1, 0), alpha=self._weight)
        time_tokens = time_norm(time_tokens[None])[0].add(time_places, alpha=self._weight).contiguous()
        tokens = tokens.reshape(rows * frames, width).contiguous()
        for index, (layer, time_layer) in enumerate(self._layers):
            with arena.scope():
                seen, time_seen = None, None
                if index % 2 != self._parity:
                    # Copies: a layer changes its own tokens in place while the other one looks at them.
                    seen, time_seen = (arena.empty(*x.shape, dtype=x.dtype).copy_(x) for x in (time_tokens, tokens))
                time_done = begin(partial(time_layer, time_tokens, time_seen))
                tokens = layer(tokens, seen)
                time_tokens = time_done()
        tokens, time_tokens = down(tokens), time_down(time_tokens)
        x = tokens.view(frames, rows, -1).transpose(0, 1).to(self._dtype).contiguous()
        return x, time_tokens[None].to(self._dtype)


def _encoded(x: Rows, encoders: Sequence[Any]) -> list[Rows]:
    """Return what each encoder makes of `x`, the first one of it, the others of what the one before made."""
    made: list[Rows] = []
    for encode in encoders:
        x = encode(x)
        made.append(x)
    return made


def _resampler(convolution: Any, dtype: torch.dtype) -> Any:
    """Return what makes tokens (tokens, channels) of another number of channels; None as it is where there is none."""
    if convolution is None:
        return lambda tokens: tokens
    weight, bias = convolution.weight[:, :, 0], convolution.bias
    if not kernels.usable(dtype):
        return lambda tokens: functional.linear(tokens, weight, bias)
    product = Product(weight, bias, dtype)

    def resampled(tokens: torch.Tensor) -> torch.Tensor:
        made = torch.empty(1, len(tokens), len(bias))
        product(tokens[None], made)
        return made[0]

    return resampled


def _standardised(x: Rows) -> tuple[Rows, float, float]:
    """Give `x` mean 0 and deviation 1 (unbiased), and return it with what both were."""
    if kernels.usable(x.dtype):
        mean, variance = kernels.moments(x)
        deviation = math.sqrt(variance * x.numel() / (x.numel() - 1))
    else:
        deviation, mean = (found.item() for found in torch.std_mean(x))
    return x.sub_(mean).div_(1e-5 + deviation), mean, deviation
