"""The separation engine: bytes of a song in, files of its stems out.

It knows nothing of HTTP, MinIO or Redis, so that it can be tested against demucs alone; and it is the only
package that may import torch and demucs, so that the rest of the service starts in milliseconds.
"""

import os
import time

from stems.separate import memory

# Before torch, whose import is most of a cold start.
STARTED_S = time.monotonic()
# torch then asks for pages of 2 MB for large blocks, where the system has them on request: a third of the page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
memory.share()
