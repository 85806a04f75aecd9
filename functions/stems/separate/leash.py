"""What a child that reads a stranger's file may use: processor time, address space, small files alone, no core file,
and of our environment, which holds secrets, no more than a program needs to start.

A shell sets the limits and becomes the program: they hold from its first instruction on, and nothing is run between
fork and exec of a process with threads, as `preexec_fn` would.
"""

import math
from collections.abc import Sequence

from stems import config

# ffmpeg takes 0.3 GiB at most for sound; a thread of it has 8 MiB, and it has one for each core for covers.
_ADDRESS_SPACE_KIB = 2 << 20
_FILE_BYTES = 8 << 20
_BLOCK_BYTES = 512  # the unit of `ulimit -f` (POSIX)
_MORE_S = 5  # from the signal that asks it to end to the one that ends it
# Where a system does not know a limit, as macOS that of address space, the others hold.
_SCRIPT = (
    'ulimit -c 0; ulimit -v "$1" 2>/dev/null; ulimit -f "$2"; ulimit -S -t "$3"; ulimit -H -t "$4"; shift 4; exec "$@"'
)
_INHERITED = ("PATH", "LD_LIBRARY_PATH")
_SETTING_OUT_S = 60.0
_REAL_TIME_SHARE = 0.1  # decoding takes two thousandths of it


def decoding_s(max_duration_s: float) -> float:
    """Return the processor time that decoding may take, in seconds: enough for the longest song; 0: any."""
    return _SETTING_OUT_S + _REAL_TIME_SHARE * max_duration_s if max_duration_s else 0


def leashed(command: Sequence[str], processor_s: float) -> list[str]:
    """Return a command that runs `command` within the limits; a `processor_s` of 0 is none."""
    soft = math.ceil(processor_s)
    times = (str(soft), str(soft + _MORE_S)) if soft else ("unlimited", "unlimited")
    sizes = (str(_ADDRESS_SPACE_KIB), str(_FILE_BYTES // _BLOCK_BYTES))
    return ["/bin/sh", "-c", _SCRIPT, "sh", *sizes, *times, *command]


def environ() -> dict[str, str]:
    """Return the environment of a child."""
    ours = config.environment(None)
    return {name: ours[name] for name in _INHERITED if name in ours}
