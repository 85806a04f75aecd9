"""How gunicorn serves the function `separate`. It binds to 0.0.0.0:$PORT by itself where PORT is set."""

from pathlib import Path

worker_class = "gthread"
# One process holds the model; one thread separates, the others answer health checks and duplicates.
workers = 1
threads = 8
# Knative's queue-proxy keeps idle connections for 90 s; closing one earlier would cost a request.
keepalive = 95
# A song in work may end: what cuts it short is the platform's own limit.
graceful_timeout = 600
# It would write into the home folder, which a read-only root has not.
control_socket_disable = True
# The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
