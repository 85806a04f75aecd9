"""What networks compute on: the processor, or a graphics card with CUDA.

A card computes several segments at a time, with demucs' own modules: `hybrid` is made for the cache of a processor.
"""

import logging
from collections.abc import Iterable
from typing import Any

import torch

from stems.config import AUTO, CPU, CUDA, EXACT, FAST
from stems.separate import kernels

_log = logging.getLogger(__name__)

# Segments at a time on a card: of htdemucs about 0.9 GB each. Where that is too much, the size is halved.
_BATCH = 8


class Device:
    """Computes `batch` segments at a time; fewer after memory ran out, and in the end on the processor.

    `note`: what people should know of it, or empty.
    """

    def __init__(self, kind: str = CPU, batch: int | None = None, note: str = "") -> None:
        self.kind, self.note = torch.device(kind), note
        self.batch = batch or (_BATCH if self.is_card else 1)
        self._left = False

    @property
    def is_card(self) -> bool:
        """Tell whether this is a graphics card."""
        return self.kind.type != CPU

    def stems(self, network: Any, mix: torch.Tensor, precision: str) -> torch.Tensor:
        """Return what `network` makes of `mix` (segments, channels, samples): (segments, sources, channels, samples).

        Both are in the processor's memory, where the card fetches and leaves them by itself. On a card, products are
        of float32 where they are to be exact, of bfloat16 where fast, else of TF32, which has three bits more. The
        processor that goes on for a card keeps to that as far as it can: the record tells of one precision for a song.
        """
        if not self.is_card:
            narrow = self._left and precision == FAST and kernels.has_bfloat16()
            with torch.inference_mode(), torch.autocast(CPU, torch.bfloat16, enabled=narrow):
                made: torch.Tensor = network(mix)
            return made.float()
        backends: Any = torch.backends
        for each in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
            each.fp32_precision = "ieee" if precision == EXACT else "tf32"
        with torch.inference_mode(), torch.autocast(self.kind.type, torch.bfloat16, enabled=precision == FAST):
            made = network(mix.pin_memory().to(self.kind, non_blocking=True))
        out = torch.empty(made.shape, dtype=torch.float32, pin_memory=True)
        out.copy_(made)
        return out

    def take_less(self, networks: Iterable[Any], count: int) -> None:
        """After `count` segments at a time were too much: take half of them, or leave the card if it was one."""
        if self.is_card:
            torch.cuda.empty_cache()
        if count > 1:
            self.batch = min(self.batch, count // 2)
            _log.warning("%s: no memory for %d segments at a time; now %d", self.kind, count, self.batch)
            return
        _log.warning("%s: no memory for one segment; computing on the CPU from now on", self.kind)
        self.kind, self.batch, self._left = torch.device(CPU), 1, True
        for network in networks:
            network.to(self.kind)


def choose(wanted: str) -> Device:
    """Return the device for a wish of stems.config.DEVICES; it says so where a card was wanted and cannot be used."""
    if wanted == CPU:
        return Device()
    obstacle = _obstacle()
    if not obstacle:
        return Device(CUDA)
    return Device(note="" if wanted == AUTO else f"STEMS_DEVICE={wanted}, but computing on the CPU: {obstacle}")


def _obstacle() -> str:
    """Return why no graphics card can be used; empty where one can."""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return f"torch {torch.__version__} is a build without CUDA"
    try:
        torch.zeros(1, device=CUDA)  # no driver, no card, one too old or in use by others: all fail here
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""
