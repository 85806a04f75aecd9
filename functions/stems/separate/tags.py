"""What an upload says of itself (title, artist, cover …), to be carried over to its stems.

ffmpeg reads it, as it reads the sound: every container it decodes, in a child, so a hostile file can only kill that.
(mutagen, the usual library, is under the GPL, and this program is not; tinytag cannot write.) Whatever goes wrong here
costs the tags, never the song.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stems.separate import audio, leash

# What is true of a stem as of the song. Not carried over: loudness, gaps and encoder, which are the song's own.
_KEPT = ("artist", "album", "album_artist", "composer", "date", "disc", "track", "genre", "copyright")
_LONGEST = 500
_TIMEOUT_S = 20.0
# At the start of a line, where no tag's value stands; what is looked for, each by itself: it takes no time of any line.
_COVER = re.compile(rb"^  Stream #0:(\d+)(?=.*: Video: )(?=.*\(attached pic\))", re.MULTILINE)
_COVER_PIXELS = 1000  # on its longer side; the file is in every stem
_MOST_PIXELS = 100_000_000
_COVER_BYTES = 5_000_000
_TOLD_BYTES = 1 << 20
# Possessive: where it may go back, it keeps a note of each character.
_LINE = re.compile(r"^(?:[^\\\n]++|\\.|\\\n)++", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Tags:
    """`title`: empty where there is none; `others`: by ffmpeg's names; `cover`: a JPEG file, or None."""

    title: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    cover: Path | None = None

    def of(self, stem: str, name: str) -> dict[str, str]:
        """Return the tags of a stem; `name` is what the song is called if it has no title."""
        return {**self.others, "title": f"{self.title or name} - {stem}"}


def read(path: Path, cover: Path) -> Tags:
    """Return the tags of a file of sound; its cover goes to the file `cover`, no larger than a page shows it."""
    # Of the file and of its first sound, where Ogg has them; -t 0: nothing of the sound is read.
    arguments = ("-map", "0:a:0", "-c", "copy", "-t", "0", "-f", "ffmetadata", "pipe:1")
    made = _ffmpeg("info", path, cover.parent, *arguments, most=_TOLD_BYTES)
    if not made:
        return Tags()
    told, said = made
    given = _parse(told.decode(errors="replace"))
    others = {key: given[key] for key in _KEPT if given.get(key)}
    found = _COVER.search(said)
    return Tags(given.get("title", ""), others, cover if found and _cover(path, found[1].decode(), cover) else None)


def _cover(path: Path, stream: str, cover: Path) -> bool:
    """Make the cover anew: so what goes into the stems is small, and a JPEG that every player shows."""
    size = f"min({_COVER_PIXELS}/max(iw\\,ih)\\,1)"
    scale = f"scale=w='max(2\\,trunc(iw*{size}))':h='max(2\\,trunc(ih*{size}))',format=yuvj420p"
    made = _ffmpeg(
        "error", path, cover.parent, "-map", f"0:{stream}", "-frames:v", "1", "-vf", scale, "-c:v", "mjpeg",
        "-q:v", "3", "-f", "image2pipe", "pipe:1", most=_COVER_BYTES,
    )  # fmt: skip
    if not made or not made[0]:
        return False
    cover.write_bytes(made[0])
    return True


def _ffmpeg(level: str, path: Path, folder: Path, *arguments: str, most: int) -> tuple[bytes, bytes] | None:
    """Return what ffmpeg makes of a file, and what it says; None where it fails, or either has more than `most` bytes.

    Both go to files in `folder`, and the leash keeps these small: what a file says of itself may be all of the file.
    """
    command = [audio.ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", level]
    command += ["-max_pixels", str(_MOST_PIXELS), *audio.input_arguments(path), *arguments]
    command = leash.leashed(command, _TIMEOUT_S)
    with tempfile.TemporaryFile(dir=folder) as made, tempfile.TemporaryFile(dir=folder) as said:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=made,
                stderr=said,
                check=True,
                timeout=_TIMEOUT_S,
                process_group=0,
                env=leash.environ(),
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        made.seek(0)
        said.seek(0)
        told = made.read(most + 1), said.read(most + 1)
    return None if max(map(len, told)) > most else told


def _parse(text: str) -> dict[str, str]:
    """Read ffmpeg's metadata file: `key=value`, with a backslash before =, ;, #, \\ and line ends.

    Of the same key, the file's own value is kept, not its stream's.
    """
    given: dict[str, str] = {}
    for line in _LINE.findall(text):
        key, separator, value = line.partition("=")
        if separator and not key.startswith((";", "#", "[")):
            plain = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
            given.setdefault(key.lower(), " ".join(plain.replace("\0", "").split())[:_LONGEST])
    return given
