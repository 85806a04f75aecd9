"""What a child that reads a stranger's file may use: processor time, address space, no core file.

A shell sets the limits and becomes the program: they hold from its first instruction on, and nothing is run between
fork and exec of a process with threads, as `preexec_fn` would.
"""

import math
from collections.abc import Sequence

# ffmpeg takes 0.3 GiB at most for sound; a thread of it has 8 MiB, and it has one for each core for covers.
_ADDRESS_SPACE_KIB = 2 << 20
_MORE_S = 5  # from the signal that asks it to end to the one that ends it
# Where a system does not know a limit, as macOS that of address space, the others hold.
_SCRIPT = 'ulimit -c 0; ulimit -v "$1" 2>/dev/null; ulimit -S -t "$2"; ulimit -H -t "$3"; shift 3; exec "$@"'
_SETTING_OUT_S = 60.0
_REAL_TIME_SHARE = 0.1  # decoding takes two thousandths of it


def decoding_s(max_duration_s: float) -> float:
    """Return the processor time that decoding may take, in seconds: enough for the longest song; 0: any."""
    return _SETTING_OUT_S + _REAL_TIME_SHARE * max_duration_s if max_duration_s else 0


def leashed(command: Sequence[str], processor_s: float) -> list[str]:
    """Return a command that runs `command` within the limits; a `processor_s` of 0 is none."""
    soft = math.ceil(processor_s)
    times = (str(soft), str(soft + _MORE_S)) if soft else ("unlimited", "unlimited")
    return ["/bin/sh", "-c", _SCRIPT, "sh", str(_ADDRESS_SPACE_KIB), *times, *command]
