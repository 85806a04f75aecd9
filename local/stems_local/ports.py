"""Ports of this machine."""

import socket
from collections.abc import Iterable


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return port != 0


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """Return a port for each of these parts, on which nobody listens now."""
    named = [(name, socket.socket()) for name in names]
    try:
        for _, probe in named:
            probe.bind(("127.0.0.1", 0))
        return {name: int(probe.getsockname()[1]) for name, probe in named}
    finally:
        for _, probe in named:
            probe.close()
