"""Networks in the form that demucs publishes them in, with random weights: as exact and as fast as trained ones."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from demucs.htdemucs import HTDemucs

SOURCES = ("drums", "bass", "other", "vocals")
SMALL = "small"
_SMALL: dict[str, Any] = {
    "segment": Fraction(2),
    "channels": 16,
    "dconv_mode": 3,
    "bottom_channels": 64,
    "t_layers": 3,
    "t_heads": 2,
}


def write_small(folder: Path) -> dict[str, str]:
    """Write the bag SMALL, of two networks of htdemucs' kind, and return the settings that name it.

    It goes all ways that htdemucs and htdemucs_ft go, kernels, segments at a time and precisions, in a moment.
    """
    for signature in ("0a", "0b"):
        write(folder, signature, HTDemucs, SOURCES, _SMALL)
    bag = {"models": ["0a", "0b"], "weights": [[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]]}
    (folder / f"{SMALL}.yaml").write_text(yaml.safe_dump(bag))
    return {"STEMS_MODEL": SMALL, "STEMS_MODEL_DIR": str(folder)}


def write(
    folder: Path, signature: str, klass: type[torch.nn.Module], sources: Sequence[str], arguments: dict[str, Any]
) -> None:
    """Write a network of `klass` into `folder`: the same for a signature, with scales at which every branch counts."""
    torch.manual_seed(int(signature[:2], 16))
    network = klass(sources, **arguments)
    for name, parameter in network.named_parameters():
        if name.endswith(".scale"):
            torch.nn.init.uniform_(parameter, 0.05, 0.5)
    path = folder / "new.th"
    content = {"klass": klass, "args": (list(sources),), "kwargs": arguments, "state": network.state_dict()}
    torch.save(content, path)
    path.rename(folder / f"{signature}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.th")
