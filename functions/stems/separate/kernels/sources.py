"""What the kernels are made of, as one number: of the library when it is compiled, and of the files beside it.

`hatch_build.py` runs this file by itself, when nothing is installed yet.
"""

import hashlib
from pathlib import Path


def digest(folder: Path) -> str:
    """Return the SHA-256 in hex of all files of C in a folder, and of their names."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.[ch]")):
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
