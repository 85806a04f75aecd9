"""How gunicorn runs the function. It binds to 0.0.0.0:$PORT by itself where PORT is set, as Knative does."""

import os
import socket
import struct
from typing import Any

worker_class = "gthread"
workers = 1
threads = 16
# Knative's queue-proxy keeps idle connections for 90 s; a server that closes them earlier causes 502s.
keepalive = 95
graceful_timeout = 30
# A heartbeat file on a disk that is busy blocks the worker.
if os.path.isdir("/dev/shm"):
    worker_tmp_dir = "/dev/shm"
# Its socket would lie in the home folder, which is read-only in a pod.
control_socket_disable = True

STALLED_CLIENT_S = 60


def when_ready(server: Any) -> None:
    """Give up on clients that take no byte for STALLED_CLIENT_S: each of them holds a thread."""
    for listener in server.LISTENERS:
        # Accepted connections inherit this from the listening one (Linux); gunicorn has no setting for it.
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALLED_CLIENT_S, 0))
