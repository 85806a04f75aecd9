#!/bin/sh
# Gets programs that tests need from the system's packages: those of its arguments that are missing.
set -eu
missing=""
for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "Error: missing are:$missing. On Debian and its kin: sudo apt-get install -y$missing" >&2
    exit 1
fi
echo "  installing$missing"
apt-get update -q >/dev/null
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
