#!/bin/sh
# Makes .venv with the pinned packages of requirements.txt; everything else is got by stems_local.programs.
set -eu
python=${PYTHON:-python3}
venv=.venv
torch_backend=${TORCH_BACKEND-cpu}

if ! command -v "$python" >/dev/null; then
    echo "Error: $python is missing. Install it with: sudo apt-get install -y python3 python3-venv" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Error: Python 3.11 or newer is needed and $python is $("$python" -V 2>&1)." >&2
    echo "       Name another one: make PYTHON=python3.12 demo" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Error: $python has no venv module. Install it with: sudo apt-get install -y python3-venv" >&2
    exit 1
fi
"$python" -m venv "$venv"

echo "  Python packages into $venv (once)"
# uv: installs in a tenth of pip's time and knows which torch builds belong to which machine.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep -o '^uv==[^ ;]*' requirements.txt)"

uv() {
    VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" "$@"
}

# torch apart from the rest: the build for CPUs (200 MB) comes from torch's own index, the one with CUDA (5 GB with its
# libraries) from the index of all packages. TORCH_BACKEND=auto takes what fits the graphics card, empty the latter.
torch=$(grep -o '^# torch==[^ ]*' requirements.txt | cut -c3-)
if [ -n "$torch_backend" ] && uv pip install --quiet --torch-backend "$torch_backend" "$torch" 2>"$venv/torch.log"; then
    :
else
    if [ -n "$torch_backend" ]; then
        echo "  torch's index for '$torch_backend' cannot be used: $(tail -n 1 "$venv/torch.log" | cut -c1-200)"
        echo "  taking the build with CUDA instead (about 5 GB; it runs on a CPU as well)"
    fi
    uv pip install --quiet "$torch"
fi
# Compiled once, all of it: the Makefile keeps Python from doing it, and each start of what imports torch takes 1.5 s more.
uv pip install --quiet --no-deps --require-hashes --compile-bytecode -r requirements.txt
uv pip install --quiet --no-deps --editable .
touch "$venv/.ready"
