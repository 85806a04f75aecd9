"""Pages of libraries that were read once to load them: let go of, and back where they are used."""

import subprocess
import sys

import pytest
import torch

from stems.separate import kernels

SCRIPT = """
import torch
from stems.separate import kernels

def of_files():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile"))

def answer():
    torch.manual_seed(0)
    return torch.nn.functional.conv1d(torch.randn(1, 8, 400), torch.randn(8, 8, 3)).double().norm().item()

before, first = of_files(), answer()
kernels.release()
after = of_files()
assert answer() == first
kernels.release()
assert answer() == first
print(before, after)
"""


# While modules of C are loaded, by one thread, others let go of all.
TOGETHER = """
import ctypes, pathlib, shutil, sys, tempfile, threading
from stems.separate import kernels

over = threading.Event()

def release():
    while not over.is_set():
        kernels.release()

sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=release) for _ in range(3)]
for thread in threads:
    thread.start()
with tempfile.TemporaryDirectory() as folder:
    for number in range(100):
        path = pathlib.Path(folder, f"{number}.so")
        shutil.copy(kernels.LIBRARY, path)
        loaded = ctypes.CDLL(str(path))
        found = (ctypes.c_double * 2)()
        numbers = (ctypes.c_float * 4)(1, 2, 3, 6)
        loaded.stems_moments(numbers, ctypes.c_int64(4), found)
        assert found[0] == 3, found[0]
over.set()
for thread in threads:
    thread.join()
"""

needs_kernels = pytest.mark.skipif(not kernels.usable(torch.float32), reason="no kernels for this machine")


@needs_kernels
def test_what_was_read_once_is_let_go_of_and_comes_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after < before / 3


@needs_kernels
def test_many_let_go_while_others_load() -> None:
    done = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
