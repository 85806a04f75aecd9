"""Pages of libraries that were read once to load them: let go of, and back where they are used."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from stems.separate import libraries

def of_files():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile"))

def answer():
    torch.manual_seed(0)
    return torch.nn.functional.conv1d(torch.randn(1, 8, 400), torch.randn(8, 8, 3)).double().norm().item()

before, first = of_files(), answer()
libraries.release()
after = of_files()
assert answer() == first
libraries.release()
assert answer() == first
print(before, after)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no dl_iterate_phdr, or no /proc")
def test_what_was_read_once_is_let_go_of_and_comes_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after < before / 3
