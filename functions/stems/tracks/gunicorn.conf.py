"""How gunicorn runs the function. It binds to 0.0.0.0:$PORT by itself where PORT is set, as Knative does."""

import os
import resource
import socket
import struct
import sys
from typing import Any

from stems.config import Settings
from stems.errors import ConfigError
from stems.tracks import gate

worker_class = "stems.tracks.server.Worker"
workers = 1
# More than downloads and uploads together (limits.py).
threads = 64
# Knative's queue-proxy keeps idle connections for 90 s; a server that closes them earlier causes 502s.
keepalive = 95
# As long as gunicorn allows: a search for a name in another script is many bytes.
limit_request_line = 8190
graceful_timeout = 30
# A heartbeat file on a disk that is busy blocks the worker.
if os.path.isdir("/dev/shm"):
    worker_tmp_dir = "/dev/shm"
# Its socket would lie in the home folder, which is read-only in a pod.
control_socket_disable = True

STALLED_CLIENT_S = 60


def on_starting(server: Any) -> None:
    """Listen to no network where nobody is asked who he is."""
    try:
        gate.refuse_open(Settings.from_env(), server.cfg.address)
    except ConfigError as error:
        sys.exit(f"Error: {error}")


def when_ready(server: Any) -> None:
    """Give up on clients that take no byte, or send none of what they announced, for STALLED_CLIENT_S.

    Each of them holds a thread.
    """
    for listener in server.LISTENERS:
        for what in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            # Accepted connections inherit this from the listening one (Linux); gunicorn has no setting for it.
            listener.sock.setsockopt(socket.SOL_SOCKET, what, struct.pack("ll", STALLED_CLIENT_S, 0))


def post_fork(server: Any, worker: Any) -> None:
    """Allow as many open files as the system does: each client of the events is one, and 1024 is a common limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
