"""The separation itself: overlapping segments through the network, cross-faded, one block at a time.

The same figures as `demucs.apply.apply_model(split=True, overlap=0.25, shifts=0)` within
`demucs.api.Separator.separate_tensor`, but as a stream: memory holds one segment however long the song, and any
division of the segments over several runs gives the same blocks, bit for bit.
"""

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch.nn import functional

from stems.separate import allowance, arena, memory
from stems.separate.model import Model

_OVERLAP = 0.25
_CORES = allowance.cores()


class Signal(Protocol):
    """What the engine needs of a song: `length` in samples, the moments of its channel mean, and its samples."""

    @property
    def length(self) -> int: ...
    @property
    def mean(self) -> float: ...
    @property
    def deviation(self) -> float: ...

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Return the samples [start, stop) as float32 of shape (channels, stop - start)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a song is cut: segment k is `segment_length` samples from k * `stride`, for k < `segments`."""

    segments: int
    stride: int
    segment_length: int


@dataclass(frozen=True, slots=True)
class Block:
    """The finished samples of all stems from sample `start` on: float32 of shape (sources, channels, samples)."""

    start: int
    stems: torch.Tensor


def plan(model: Model, length: int) -> Plan:
    """Return how a song of `length` samples is cut for `model`."""
    segment_length = model.segment_length
    stride = int((1 - _OVERLAP) * segment_length)
    return Plan(-(-length // stride), stride, segment_length)


def separate(model: Model, song: Signal, *, first: int = 0, last: int | None = None) -> Generator[Block]:
    """Yield one block per segment, in order, for the segments [first, last) of `plan`; `last` None means all.

    The blocks cover the samples [first * stride, last * stride), clipped to the song, in the song's own scale.
    A run that starts later than the song does computes the segment before `first` too, for its fading tail. Raises
    ValueError for segments that are not in the plan.
    """
    cut = plan(model, song.length)
    last = cut.segments if last is None else last
    if not 0 <= first < last <= cut.segments:
        raise ValueError(f"segments [{first}, {last}) are not within the {cut.segments} of the song")
    return _blocks(model, song, cut, first, last)


def _blocks(model: Model, song: Signal, cut: Plan, first: int, last: int) -> Generator[Block]:
    """Cross-fade the segments [first, last); at an overlap below one half only two ever meet in a sample."""
    window = _triangle(cut.segment_length)
    tail: torch.Tensor | None = None
    indices = range(max(first - 1, 0), last)
    for index, estimate in zip(indices, _estimates(model, song, cut, indices), strict=True):
        start = index * cut.stride
        faded = estimate.mul_(window[: estimate.shape[-1]])
        head = faded[..., : cut.stride]
        weight = window[: head.shape[-1]].clone()
        if tail is not None:
            shared = tail.shape[-1]
            head[..., :shared] += tail
            weight[:shared] += window[cut.stride : cut.stride + shared]
        tail = faded[..., cut.stride :].clone()  # or all of the segment would stay
        if index >= first:
            yield Block(start, head.div_(weight).mul_(song.deviation + 1e-8).add_(song.mean))


def _estimates(model: Model, song: Signal, cut: Plan, indices: Iterable[int]) -> Generator[torch.Tensor]:
    """Yield the stems of these segments, in order, while the lanes compute the next ones.

    Whoever closes the iterator waits for the segments in work. Until then this thread does alone what it does: for
    every small step that it shares with other threads it would wait until a lane leaves them a core.
    """
    count = min(model.at_once, _CORES)
    lanes = _lanes(count)
    ahead: deque[Future[list[torch.Tensor]]] = deque()
    threads = torch.get_num_threads()
    allowance.take(1)
    try:
        groups = list(_groups(model, song, cut, indices))
        # Those that are left over at the end share the cores, where that changes no sample.
        left = len(groups) % count if model.by_kernels else 0
        for number, (starts, length) in enumerate(groups):
            cores = _CORES // (left if number >= len(groups) - left else count)
            ahead.append(lanes.submit(_estimate_by, cores, model, song, starts, length))
            if len(ahead) > count:
                yield from ahead.popleft().result()
        while ahead:
            made = ahead.popleft().result()
            arena.give_back()  # of lanes that have nothing more to do
            yield from made
    finally:
        for future in ahead:
            future.cancel()
        wait(ahead)
        allowance.take(threads)
        memory.give_back()
        arena.give_back()


def _groups(model: Model, song: Signal, cut: Plan, indices: Iterable[int]) -> Iterator[tuple[list[int], int]]:
    """Yield the starts of segments of one length that are computed together, and that length."""

    def length_of(index: int) -> int:
        return min(cut.segment_length, song.length - index * cut.stride)

    for length, group in itertools.groupby(indices, length_of):
        while starts := [index * cut.stride for index in itertools.islice(group, model.device.batch)]:
            yield starts, length


@cache
def _lanes(count: int) -> ThreadPoolExecutor:
    """Return so many threads; they stay, as does what torch keeps in each that computes."""
    return ThreadPoolExecutor(count, "lane")


def _estimate_by(cores: int, model: Model, song: Signal, starts: Sequence[int], length: int) -> list[torch.Tensor]:
    """As `_estimate`, in a thread that computes with so many cores, and with fewer segments where memory runs out."""
    allowance.take(cores)
    made: list[torch.Tensor] = []
    while len(made) < len(starts):
        some = starts[len(made) : len(made) + model.device.batch]
        try:
            made += _estimate(model, song, some, length)
            continue
        except torch.OutOfMemoryError:
            if not model.device.is_card:
                raise
        # Outside of the handler, whose traceback holds what filled the memory.
        model.device.take_less([part.network for part in model.parts], len(some))
    return made


def _estimate(model: Model, song: Signal, starts: Sequence[int], length: int) -> torch.Tensor:
    """Return the stems (segments, sources, channels, length) of the normalised song from each of `starts` on.

    They are averaged over the parts. A network gets the length it asks for, with the song's own samples as context on
    both sides and zeros only beyond its ends, as `demucs.apply.TensorChunk.padded` does.
    """
    weights = torch.tensor([part.weights for part in model.parts])
    total: torch.Tensor | None = None
    for part, weight in zip(model.parts, weights, strict=True):
        if not weight.any():
            continue
        network = part.network
        valid_length = network.valid_length(length) if hasattr(network, "valid_length") else length
        margin = (valid_length - length) // 2
        mix = torch.stack([_context(song, start - margin, start - margin + valid_length) for start in starts])
        stems = model.device.stems(network, mix, model.precision)
        weighted = stems[..., margin : margin + length] * weight[:, None, None]
        total = weighted if total is None else total.add_(weighted)
    assert total is not None  # `Model` has a weight for each source
    return total.div_(weights.sum(0)[:, None, None])


def _context(song: Signal, begin: int, end: int) -> torch.Tensor:
    """Return the normalised samples [begin, end) of the song, with zeros beyond its ends."""
    mix = (song.read(max(begin, 0), min(end, song.length)) - song.mean) / (song.deviation + 1e-8)
    return functional.pad(mix, (max(-begin, 0), max(end - song.length, 0)))


def _triangle(length: int) -> torch.Tensor:
    """Return the cross-fade weights of a segment, of shape (length,): up to 1 in the middle and down again."""
    rise = torch.arange(1, length // 2 + 1)
    fall = torch.arange(length - length // 2, 0, -1)
    window = torch.cat([rise, fall])
    return window / window.max()
