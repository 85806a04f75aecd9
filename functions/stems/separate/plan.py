"""How a long song is divided: runs of segments that any worker computes alone, and the stems to join of them."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stems.options import Options
from stems.separate import audio
from stems.separate.model import Model

# Where pods are free, a song is cut as fine as this, but not finer: each part computes one segment more.
_LEAST_S = 30.0
# So many STEMS_PART_S of stems one worker encodes beside a separation's time; more are joined stem by stem.
_JOINED_AT_ONCE = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """A divided song of `length` samples. Part k are the segments [cuts[k], cuts[k + 1]) of `stride` samples each.

    `mean`, `deviation`: as of stems.separate.audio.Song; `stems`, `formats`: what is asked for; `title`, `tags`,
    `cover`: what the upload says of itself, `cover` whether it has one; `apart`: whether each stem is joined by itself.
    """

    id: str
    songhash: str
    length: int
    sample_rate_hz: int
    channels: int
    mean: float
    deviation: float
    stride: int
    cuts: tuple[int, ...]
    model: str
    stems: tuple[str, ...]
    formats: tuple[str, ...]
    apart: bool
    title: str
    tags: Mapping[str, str]
    cover: bool
    stages_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of all channels, in the sound and in the stems."""
        return audio.frame_bytes(self.channels)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts, in order."""
        count = len(self.cuts) - 1
        # With their number: parts of two divisions of one song never come together. Of one width: sorted, as Redis and
        # listings do, they are in order.
        return tuple(f"part-{number:0{len(str(count))}}-of-{count}" for number in range(1, count + 1))

    @property
    def joins(self) -> tuple[str, ...]:
        """Return the names of the joins that are made apart."""
        return tuple(f"join-{stem}" for stem in self.stems) if self.apart else ()

    @property
    def options(self) -> Options:
        """Return what is asked for."""
        return Options(self.model, self.stems, self.formats)

    def segments(self, part: str) -> tuple[int, int]:
        """Return the segments [first, last) of a part. Raises KeyError for one that is not in the plan."""
        if part not in self.parts:
            raise KeyError(part)
        number = int(part.split("-")[1])
        return self.cuts[number - 1], self.cuts[number]

    def samples(self, part: str) -> tuple[int, int]:
        """Return the samples [start, stop) of a part."""
        first, last = self.segments(part)
        return first * self.stride, min(last * self.stride, self.length)

    def left_s(self, names: Iterable[str]) -> float:
        """Return how long the music of these parts plays, in seconds; of joins it is made already."""
        made = map(self.samples, set(names).intersection(self.parts))
        return sum(stop - start for start, stop in made) / self.sample_rate_hz

    def to_json(self) -> bytes:
        """Return the bytes of `plan.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Plan":
        """Read a plan. Raises ValueError if it is none."""
        try:
            data: dict[str, Any] = json.loads(text)
            lists = {name: tuple(data[name]) for name in ("cuts", "stems", "formats")}
            return cls(**{**data, **lists})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a plan: {error}") from error


def plan_id(songhash: str, options: Options, model: Model) -> str:
    """Return the identity of a plan: parts of another wish, or of another model, never come together."""
    wish = [songhash, model.digest, model.precision, *options.wanted(model.sources), "", *options.formats]
    return hashlib.sha256("\0".join(wish).encode()).hexdigest()[:16]


def count(duration_s: float, model: Model, segments: int, part_s: float, places: int = 0) -> int:
    """Return in how many parts a song is divided; 1: it is not.

    A part is at most `part_s` of sound, of a bag in proportion less, as each of its networks takes its time. Where
    `places` workers have nothing else to do, each gets a part.
    """
    if not part_s:
        return 1
    needed = math.ceil(duration_s * len(model.parts) / part_s)
    return max(1, min(segments, max(needed, min(places, int(duration_s / _LEAST_S)))))


def longest_whole_s(model: Model, part_s: float, places: int = 0) -> float:
    """Return up to which length a song is not divided, in seconds."""
    if not part_s:
        return math.inf
    whole_s = part_s / len(model.parts)
    return min(whole_s, 2 * _LEAST_S) if places > 1 else whole_s


def cuts(segments: int, parts: int) -> tuple[int, ...]:
    """Return the bounds of so many runs of segments, as equal as they can be."""
    return tuple(round(number * segments / parts) for number in range(parts + 1))


def joined_apart(duration_s: float, stems: int, formats: int, part_s: float) -> bool:
    """Tell whether the files are too much for one worker's request: then each stem is joined by itself."""
    return stems > 1 and duration_s * stems * formats > _JOINED_AT_ONCE * part_s
