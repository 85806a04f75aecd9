#!/bin/sh
# Writes requirements.txt: every package of every extra with its version and hashes, for all platforms; no addresses.
set -eu
torch_and_its_libraries="torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(
    .venv/bin/uv pip compile -q --universal --all-extras --group dev --no-header --no-annotate pyproject.toml |
        grep -oE '^nvidia-[a-z0-9-]+' || true)"
skip=""
for package in $torch_and_its_libraries; do
    skip="$skip --no-emit-package $package"
done
torch=$(.venv/bin/uv pip compile -q --universal --all-extras --no-header --no-annotate pyproject.toml | grep -oE '^torch==[^ ]+')
{
    echo "# Written by \`make requirements\`. torch stands apart since its builds differ (local/setup.sh):"
    echo "# $torch"
    # shellcheck disable=SC2086 # a list of words
    .venv/bin/uv pip compile -q --universal --all-extras --group dev --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links $skip pyproject.toml
} >requirements.tmp
mv requirements.tmp requirements.txt
