"""What a figure was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Name the processor, its cores, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    units = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    software = f"Python {platform.python_version()}, torch {version('torch')}"
    return f"{name}, {os.cpu_count()} cores, {' '.join(units)}; {software}"
