"""The song that comes with the project: `python -m tests.data.songmaker.bundle FOLDER`.

Writes `song.mp3` and, as `song/<stem>.mp3`, its true stems. The song is made of the stems as they are after encoding:
what `song/` holds is the truth, and the song differs from its sum only by its own encoding.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from stems.separate.audio import ffmpeg
from stems_local.quality import samples
from tests.data.songmaker.compose import Palette
from tests.data.songmaker.score import RATE_HZ, STEMS
from tests.data.songmaker.song import Song, make

# Picked from the first thirty of a set of its own for its score (all stems, a full band, backing voices) and its
# balance, not for how well it separates.
SEED = 3_000_027
SECONDS = 30.0
PALETTE = Palette(("fluid",), 0.0)  # MIT
_STEM_QUALITY, _SONG_QUALITY = ("-q:a", "4"), ("-b:a", "192k")


def song() -> Song:
    """Return the bundled song, made anew."""
    return make(SEED, SECONDS, PALETTE)


def write(made: Song, folder: Path) -> None:
    """Write the song and its stems."""
    stems = folder / "song"
    stems.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        _encode(made.stems[stem].T, stems / f"{stem}.mp3", _STEM_QUALITY)
    mixture = np.sum([samples(stems / f"{stem}.mp3") for stem in STEMS], axis=0)
    _encode(np.clip(mixture, -1, 1), folder / "song.mp3", _SONG_QUALITY)


def _encode(sound: NDArray[Any], path: Path, quality: tuple[str, str]) -> None:
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        soundfile.write(wav.name, sound, RATE_HZ, subtype="PCM_16")
        # Without the version of ffmpeg in the file.
        exact = ("-fflags", "+bitexact", "-flags:a", "+bitexact")
        command = [ffmpeg(), "-v", "error", "-y", "-i", wav.name, "-c:a", "libmp3lame", *quality, *exact, str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def main() -> None:
    """Write the bundled song into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(song(), parser.parse_args().folder)


if __name__ == "__main__":
    main()
