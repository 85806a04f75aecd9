#!/bin/sh
# Makes a base for the images of Debian's own packages, where no registry can be reached. Needs podman, mmdebstrap and root.
#
#   tests/images/base.sh [APT-SOURCES]
#   BASE=localhost/stems-base:bookworm make images
set -eu
without='/usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/*'
archive=$(mktemp --suffix .tar)
trap 'rm -f "$archive"' EXIT
set -f # the patterns are dpkg's
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates,tzdata \
    $(printf ' --dpkgopt=path-exclude=%s' $without) bookworm "$archive" "$@"
podman import --quiet "$archive" localhost/stems-base:bookworm
