"""Compiles the kernels of the separation when the package is installed, by the C compiler that `ziglang` brings.

Why that one: it is a package like any other, so nobody needs to have a compiler; it makes a library for any glibc since
2014; and what it makes is as fast as gcc's. Where it does not work, the installation goes on: torch computes then.
"""

import os
import platform
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("functions", "stems", "separate", "kernels")
LIBRARY = FOLDER / "kernels.so"
# A baseline for all that is in the library: who calls it looks first at what the processor can do.
TARGET, PROCESSOR = "x86_64-linux-gnu.2.17", "x86_64_v4+avx512bf16"
FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-shared", "-fPIC", "-g0", "-s"]


class KernelsHook(BuildHookInterface[Any]):  # type: ignore[misc,unused-ignore]
    """Adds the library to the wheel or, where the installation is editable, to the sources."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, where the machine is one that could run it."""
        if sys.platform != "linux" or platform.machine() != "x86_64":
            return
        # An older one would be called as the new one is: better none.
        (Path(self.root) / LIBRARY).unlink(missing_ok=True)
        try:
            compiled(Path(self.root))
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"The kernels were not compiled, torch will compute alone: {error}")
            return
        build_data["artifacts"].append(LIBRARY.as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-manylinux_2_17_x86_64"


def compiled(root: Path) -> None:
    """Compile the library, in place of another one that may be in use. Raises CalledProcessError, OSError."""
    sources = sorted(map(str, (root / FOLDER).glob("*.c")))
    digest = runpy.run_path(str(root / FOLDER / "sources.py"))["digest"](root / FOLDER)
    version = f'-DSTEMS_SOURCES="{digest}"'
    with tempfile.TemporaryDirectory(dir=root / FOLDER, prefix=".new-") as folder:
        made = Path(folder, LIBRARY.name)
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", TARGET, f"-mcpu={PROCESSOR}"]
        subprocess.run(
            [*compiler, *FLAGS, version, *sources, "-o", str(made)], check=True, env={**os.environ, **caches}
        )
        made.replace(root / LIBRARY)
