"""Networks in the form that demucs publishes them in, with random weights: as exact and as fast as trained ones."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


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
