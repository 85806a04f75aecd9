#!/bin/sh
# Gets what the song maker plays, from the system's packages: FluidSynth, espeak-ng and soundfonts.
set -eu
packages="fluidsynth espeak-ng fluid-soundfont-gm timgm6mb-soundfont"
if [ "${1-}" = all ]; then
    packages="$packages musescore-general-soundfont-lossless"
fi
# shellcheck disable=SC2086 # a list of words
exec "$(dirname "$0")/packages.sh" $packages
