"""The network that is trained, and the file that the engine loads."""

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import torch
from demucs.hdemucs import HDemucs
from safetensors.torch import save_file
from torch import nn

from tests.data.training import start
from tests.data.training.data import SAMPLE_RATE_HZ, SOURCES

# A U-Net over magnitudes, put back on the mixture's phases: of what was tried (README) it learned by far the most an
# hour. Strides of 8 halve the places of the outermost level against demucs' 4; group norm inside it keeps the inner
# levels heard; an LSTM at the bottom sees the whole segment.
_DEMO: dict[str, Any] = {
    "hybrid": False,
    "cac": False,
    "wiener_iters": -1,
    "end_iters": -1,
    "kernel_size": 16,
    "stride": 8,
    "depth": 4,
    "channels": 64,
    "growth": 1.5,
    "norm_starts": 1,
    "dconv_mode": 1,
    "dconv_comp": 8,
    "dconv_init": 1e-2,
    "dconv_attn": 99,
    "dconv_lstm": 3,
    "samplerate": SAMPLE_RATE_HZ,
    "segment": Fraction(39, 5),
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "demo": _DEMO,
    "tiny": {**_DEMO, "stride": 2, "kernel_size": 4, "channels": 16, "growth": 1, "depth": 2, "nfft": 512},
}


def build(architecture: str, seed: int) -> HDemucs:
    """Return a new network of one of the `ARCHITECTURES`, with the first weights of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: HDemucs = HDemucs(list(SOURCES), **ARCHITECTURES[architecture])
    start.let_through(network)
    return network


def export(network: nn.Module, state: dict[str, torch.Tensor], path: Path, training: dict[str, Any]) -> None:
    """Write the weights `state` of `network` as `path`, whole or not at all, in the layout of demucs' exporter.

    Weights are float16; demucs' loader copies them into the float32 network that the metadata describe. `training`
    tells where they come from.
    """
    args, kwargs = cast(Any, network)._init_args_kwargs
    kind = type(network)
    metadata = {
        "klass": f"{kind.__module__}.{kind.__qualname__}",
        "args": json.dumps(_encoded(args)),
        "kwargs": json.dumps(_encoded(kwargs)),
        "training": json.dumps(training, sort_keys=True),
    }
    halves = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in state.items()}
    part = path.with_suffix(".part")
    save_file(halves, part, metadata)
    part.chmod(0o644)  # safetensors makes private files
    os.replace(part, path)


def _encoded(value: Any) -> Any:
    """Return `value` as JSON can hold it and `demucs.hf` reads it: a fraction becomes an object with a type."""
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    if isinstance(value, dict):
        return {key: _encoded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(each) for each in value]
    return value
