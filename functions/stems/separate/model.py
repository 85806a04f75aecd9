"""Finding and loading the networks: only from the model folder, never from the network.

`demucs.pretrained.get_model` is not used: it falls back to downloads, and ends the process where a folder or a
program is missing. `.th` files are pickles and run code when loaded: the folder must hold only trusted files.
"""

import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from demucs.apply import BagOfModels
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from demucs.repo import LocalRepo
from safetensors import SafetensorError, safe_open

from stems.config import CLOSE, EXACT, FAST
from stems.errors import BadOptions, ModelUnavailable
from stems.separate import allowance, kernels, memory
from stems.separate.device import Device
from stems.separate.hybrid import Hybrid, Types

# Of the segments in work by our kernels: whoever waits for the first ones waits no longer for more.
_MOST_AT_ONCE = 8
# In MiB: a process with two segments of htdemucs in work; each further segment; each further network of a bag.
_TWO_AT_ONCE_MIB, _SEGMENT_MIB, _NETWORK_MIB = 1024, 180, 178
DEMO = "demo"
UNTRAINED = "untrained"
# What products are computed in: those of the transformer, and those of the convolutions.
_TYPES: Mapping[str, Types] = {
    EXACT: Types(torch.float32, torch.float32),
    CLOSE: Types(torch.bfloat16, torch.float32),
    FAST: Types(torch.bfloat16, torch.bfloat16),
}
# What is to be said of these two wherever they are shown.
NOTES = {
    DEMO: "trained on synthetic music: for trying, testing and development",
    UNTRAINED: "random weights: its stems are no separation",
}

# Bundled, with where it comes from: models/demo.md.
_DEMO_FILE = Path(__file__).with_name("models") / "demo.safetensors"
_DEMO_SHA256 = "13e2b3efbb0dc9b704a34948ea6b36454659035a1bbe8bc11ef4a375a6199965"

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_CLASSES = (Demucs, HDemucs, HTDemucs)
_SEED = 20240607
_UNTRAINED_ARGUMENTS: dict[str, Any] = {
    "sources": ["drums", "bass", "other", "vocals"],
    "segment": Fraction(4),
    "channels": 4,
    "dconv_mode": 0,
    "rewrite": False,
    "context": 0,
    "t_layers": 1,
    "t_heads": 2,
    "t_hidden_scale": 1.0,
}
# What loading a damaged or foreign file raises. SystemExit: demucs ends the process for a quantised `.th` file.
_LOAD_ERRORS = (
    SafetensorError,
    pickle.UnpicklingError,
    yaml.YAMLError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SystemExit,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One network, its weight in the average for each source, and the samples it takes at a time.

    `network` takes mixes (segments, channels, samples), a Hybrid one at a time, and returns their stems (segments,
    sources, channels, samples).
    """

    network: Any
    weights: tuple[float, ...]
    segment_length: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model ready for inference: one network, or a bag of them whose estimates are averaged.

    `digest` is the SHA-256 in hex of the files it was loaded from; `note` what people should know of it, or empty;
    `precision` that of PRECISIONS which it computes at, `shortfall` why that is not the one asked for, or empty.
    Raises ModelUnavailable where the parts cannot run in lockstep.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate_hz: int
    channels: int
    parts: tuple[Part, ...]
    digest: str
    note: str = ""
    precision: str = EXACT
    device: Device = field(default_factory=Device)
    shortfall: str = ""

    def __post_init__(self) -> None:
        lengths = {part.segment_length for part in self.parts}
        if len(lengths) != 1:
            raise ModelUnavailable(f"model {self.name}: its parts must have one segment length, not {sorted(lengths)}")
        for source, weights in zip(self.sources, zip(*(part.weights for part in self.parts), strict=True), strict=True):
            if sum(weights) <= 0:
                raise ModelUnavailable(f"model {self.name}: no part has a weight for the source {source}")

    @property
    def at_once(self) -> int:
        """Return how many segments to compute at a time at most, each by its share of the cores.

        By our kernels one for each core, as far as memory goes. By torch, two of a Hybrid leave less of two cores idle
        than one does: 2.3 s a segment instead of 2.9. Of others two take too much: `demo` 1.4 GiB, and gains nothing.
        """
        if not self.in_blocks:
            return 1
        if not self.by_kernels:
            return 2
        needed_mib = _TWO_AT_ONCE_MIB + _NETWORK_MIB * (len({id(part.network) for part in self.parts}) - 1)
        room_mib = (allowance.memory_mib() or needed_mib) - needed_mib
        return max(1, min(_MOST_AT_ONCE, 2 + room_mib // _SEGMENT_MIB))

    @property
    def by_kernels(self) -> bool:
        """Tell whether our kernels compute it: how many cores a segment has changes no sample then."""
        return self.in_blocks and any(part.network.by_kernels for part in self.parts)

    @property
    def in_blocks(self) -> bool:
        """Tell whether all networks are in the form of ours, which takes a precision."""
        return all(isinstance(part.network, Hybrid) for part in self.parts)

    @property
    def segment_length(self) -> int:
        """Return the samples that every part takes at a time."""
        return self.parts[0].segment_length


def available(folder: Path) -> list[str]:
    """Return the names of the models in `folder`, sorted; none where there is no such folder."""
    return sorted({file.stem for file in folder.glob("*") if file.suffix in (".safetensors", ".yaml")})


def load(name: str, folder: Path, precision: str = EXACT, device: Device | None = None) -> Model:
    """Return the model `name`: `demo`, `untrained`, or `<name>.safetensors` or the bag `<name>.yaml` in `folder`.

    Its networks compute at `precision`, where they and the processor can at another one than exactly, on `device`, by
    default the processor. Raises BadOptions for a name that could walk the file system, and ModelUnavailable where the
    model is missing or its files are damaged.
    """
    if not _NAME.fullmatch(name):
        raise BadOptions(f"model {name!r}: a name has only letters, digits, '_' and '-'")
    kernels.release()
    model = _prepared(replace(_find(name, folder), device=device or Device()), precision)
    if model.in_blocks:
        # Not for others: `demo` would come to more than 1 GiB after some songs.
        memory.keep()
        memory.give_back()
        kernels.release()  # of what loading needed, too
    return model


def _find(name: str, folder: Path) -> Model:
    if name == UNTRAINED:
        return _untrained()
    if name == DEMO:
        return _demo()
    if (file := folder / f"{name}.safetensors").is_file():
        return load_file(file)
    try:
        if (bag := folder / f"{name}.yaml").is_file():
            return _assemble(name, yaml.safe_load(bag.read_text("utf-8")), folder, [bag])
    except _LOAD_ERRORS as error:
        raise ModelUnavailable(f"model {name} in {folder} cannot be loaded: {error}") from error
    found = ", ".join(available(folder)) or "none"
    raise ModelUnavailable(f"there is no model {name} in {folder}; found there: {found}")


def _prepared(model: Model, precision: str) -> Model:
    """Return the model with its networks in the form that computes fastest at this precision, on its device."""
    networks = {id(part.network): part.network for part in model.parts}  # a bag may name one more than once
    if model.device.is_card:
        for network in networks.values():
            network.to(model.device.kind)
        return replace(model, precision=precision)
    shortfall = ""
    if not all(map(Hybrid.supports, networks.values())):
        precision = EXACT
    elif precision != EXACT and not kernels.has_bfloat16():
        # Without such instructions both less exact and slower.
        shortfall = f"STEMS_PRECISION={precision}, but computing exactly: {kernels.NO_BFLOAT16}"
        precision = EXACT
    made = {
        key: Hybrid(network, _TYPES[precision]) if Hybrid.supports(network) else network
        for key, network in networks.items()
    }
    parts = tuple(replace(part, network=made[id(part.network)]) for part in model.parts)
    return replace(model, parts=parts, precision=precision, shortfall=shortfall)


def load_file(file: Path) -> Model:
    """Return the model in a file of weights, called as the file is. Raises ModelUnavailable where it is damaged."""
    try:
        return _assemble(file.stem, {"models": [file.stem]}, file.parent, [])
    except _LOAD_ERRORS as error:
        raise ModelUnavailable(f"model {file.stem} in {file.parent} cannot be loaded: {error}") from error


def _untrained() -> Model:
    """Build a small HTDemucs with random weights, the same at every call, for what needs speed and no quality.

    15 to 27 times real time alone on 2 cores of an AMD EPYC (Zen 4 VM, torch 2.15.0, demucs 4.1.0), 0.8 GB resident.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = HTDemucs(**_UNTRAINED_ARGUMENTS)
    digest = hashlib.sha256(repr((_SEED, _UNTRAINED_ARGUMENTS)).encode()).hexdigest()
    return _model(UNTRAINED, BagOfModels([network]), digest)


def _demo() -> Model:
    """Load the bundled model. Raises ModelUnavailable for other bytes than those that were bundled."""
    model = load_file(_DEMO_FILE)
    if model.digest != _DEMO_SHA256:
        raise ModelUnavailable(f"{_DEMO_FILE} has the SHA-256 {model.digest}, not {_DEMO_SHA256}: install stems anew")
    return model


def _assemble(name: str, bag: Any, folder: Path, files: list[Path]) -> Model:
    """Load the networks that `bag` names, in demucs' own bag format, and digest their files after `files`."""
    networks: dict[str, Any] = {}
    for signature in bag["models"]:
        if signature not in networks:
            file, networks[signature] = _network(str(signature), folder)
            files = [*files, file]
    parts = [networks[signature] for signature in bag["models"]]
    return _model(name, BagOfModels(parts, bag.get("weights"), bag.get("segment")), _digest(files))


def _model(name: str, bag: BagOfModels, digest: str) -> Model:
    bag.eval().requires_grad_(False)
    networks: list[Any] = list(bag.models)
    parts = tuple(
        Part(network, tuple(map(float, weights)), int(network.samplerate * network.segment))
        for network, weights in zip(networks, bag.weights, strict=True)
    )
    sources = tuple(str(source) for source in bag.sources)
    return Model(name, sources, int(bag.samplerate), int(bag.audio_channels), parts, digest, NOTES.get(name, ""))


def _network(signature: str, folder: Path) -> tuple[Path, torch.nn.Module]:
    """Return the file of the network `signature` in `folder`, and the network."""
    if not _NAME.fullmatch(signature):
        raise ValueError(f"{signature!r} is no signature")
    file = folder / f"{signature}.safetensors"
    if file.is_file():
        _check_class(file)
        return file, load_safetensors_model(file)
    repo = LocalRepo(folder)
    network = repo.get_model(signature)  # checks the checksum in the file's name
    return Path(repo.list_model()[signature]), network


def _check_class(file: Path) -> None:
    """Raise ValueError unless `file` holds a class of demucs: its loader imports and calls whatever is named."""
    with safe_open(file, framework="pt") as weights:
        metadata = weights.metadata() or {}
    known = [f"{each.__module__}.{each.__qualname__}" for each in _CLASSES]
    if metadata.get("klass") not in known:
        raise ValueError(f"{file.name} holds the class {metadata.get('klass')}, not one of {', '.join(known)}")
    if "structure" in metadata:
        raise ValueError(f"{file.name} is quantised (diffq), which is not supported")


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while data := stream.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()
