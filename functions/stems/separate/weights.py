"""Published models: where they are, what they must hash to, and how they come into the model folder. Needs no torch."""

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError

from stems.errors import ModelUnavailable, TransientError

_CHUNK = 1 << 20
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights, named `<signature>-<checksum>.th` as demucs names them; `sha256` in full, in hex."""

    file: str
    prefix: str
    sha256: str

    @property
    def signature(self) -> str:
        """Return what a model's yaml calls the file."""
        return self.file.partition("-")[0]


PUBLISHED: Mapping[str, tuple[Weights, ...]] = {
    "htdemucs": (
        Weights(
            "955717e8-8726e21a.th",
            "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer",
            "8726e21a993978c7ba086d3872e7608d7d5bfca646ca4aca459ffda844faa8b4",
        ),
    ),
}

LICENCE = (
    "these weights are not under the MIT licence of demucs' code; their authors provide them for scientific "
    "purposes only: https://github.com/facebookresearch/demucs/issues/327"
)


def published(name: str) -> tuple[Weights, ...]:
    """Return the files of a published model. Raises ModelUnavailable naming those that there are."""
    try:
        return PUBLISHED[name]
    except KeyError:
        raise ModelUnavailable(f"no published model {name!r}; there is {', '.join(PUBLISHED)}") from None


def fetch(weights: Weights, folder: Path, prefix: str | None, on_progress: Callable[[float], None]) -> bool:
    """Bring a file of weights into the folder, whole and checked or not at all. False if it is there already.

    `prefix` is used in place of where its authors keep it. `on_progress` is told the part done where the size is
    known. Raises ModelUnavailable for other bytes than the published ones, TransientError when there is no answer.
    """
    target = folder / weights.file
    if target.is_file() and _sha256(target) == weights.sha256:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    address = f"{(prefix or weights.prefix).rstrip('/')}/{weights.file}"
    handle, name = tempfile.mkstemp(prefix=f".{weights.file}.", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = hashlib.sha256()
            for chunk in _download(address, weights, folder, on_progress):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != weights.sha256:
            raise ModelUnavailable(
                f"{address} has the SHA-256 {digest.hexdigest()}, the published one is {weights.sha256}: not kept"
            )
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return True


def describe(name: str, folder: Path) -> Path:
    """Write `<name>.yaml`, which tells demucs what the model is made of; last, so that it never names less."""
    path = folder / f"{name}.yaml"
    signatures = ", ".join(repr(weights.signature) for weights in published(name))
    part = path.with_name(f".{path.name}")
    part.write_text(f"models: [{signatures}]\n")
    part.replace(path)
    return path


def _download(address: str, weights: Weights, folder: Path, on_progress: Callable[[float], None]) -> Iterator[bytes]:
    try:
        with cast(HTTPResponse, urllib.request.urlopen(address, timeout=_TIMEOUT_S)) as response:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(_CHUNK):
                yield chunk
                done += len(chunk)
                on_progress(done / total if total else 0)
        if done < total:
            raise HTTPException(f"it ended after {done} of {total} bytes")
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(error, HTTPError):
            error.close()
            reason = error
        raise TransientError(
            f"{address} cannot be read: {reason}. Without a network, copy {weights.file} into {folder} by hand "
            "and run this again, or name a mirror with --from"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
