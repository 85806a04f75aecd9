#!/bin/sh
# Builds the images stems-relay, stems-tracks and stems-separate, tagged with the version of pyproject.toml, with docker,
# podman or buildah, whichever works here.
#
#   PREFIX                             what stands before their names: kind.local, a registry
#   BASE, INDEX, TORCH_INDEX, MODEL    the arguments of the Dockerfile
#   CA                                 a file of certificates, for networks that have their own
set -eu
cd "$(dirname "$0")/.."

for engine in ${ENGINE:-docker podman buildah}; do
    "$engine" info >/dev/null 2>&1 && break
    engine=
done
if [ -z "$engine" ]; then
    echo "Error: neither docker nor podman nor buildah works here. Install one: sudo apt-get install -y podman" >&2
    exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null) && set -- --label "org.opencontainers.image.revision=$revision" "$@"
for name in BASE INDEX TORCH_INDEX MODEL; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || set -- --build-arg "$name=$value" "$@"
done
[ -z "${CA:-}" ] || set -- --secret "id=ca,src=$CA" "$@"

for part in relay tracks separate; do
    image=${PREFIX:+$PREFIX/}stems-$part:$version
    echo "  $image with $engine" >&2
    "$engine" build --quiet --target "$part" --tag "$image" "$@" . >/dev/null
done
