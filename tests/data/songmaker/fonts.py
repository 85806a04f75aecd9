"""The soundfonts: what they are called, where Debian's packages put them, and on what terms they may be used.

Training and test share none. The weights and the bundled song are given away, so what made them is MIT, CC0 or
public domain; what only tests them may be anything free. (csound-soundfont, public domain, was left out of training:
some of its presets render almost as TimGM6mb's do, to 0.1 % in level, so it shares samples with the test.)
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Font:
    """A General MIDI soundfont, and the programs of its drum kits that are used."""

    path: Path
    package: str
    licence: str
    kits: tuple[int, ...]


_FOLDER = Path("/usr/share/sounds/sf2")
FONTS = {
    "fluid": Font(_FOLDER / "FluidR3_GM.sf2", "fluid-soundfont-gm", "MIT", (0, 8, 16, 24, 25, 32, 40)),
    "musescore": Font(
        _FOLDER / "MuseScore_General_Full.sf2",
        "musescore-general-soundfont-lossless",
        "MIT, parts CC0 and public domain",
        (0, 8, 16, 24, 25, 32, 40),
    ),
    "tim": Font(_FOLDER / "TimGM6mb.sf2", "timgm6mb-soundfont", "GPL-2", (0, 8, 16, 24, 25, 32, 40)),
}
TRAINING = ("fluid", "musescore")
TEST = ("tim",)


def path(name: str) -> Path:
    """Return where the soundfont is. Raises FileNotFoundError naming the package that has it."""
    font = FONTS[name]
    if not font.path.is_file():
        raise FileNotFoundError(f"{font.path} is missing: install the package {font.package}")
    return font.path
