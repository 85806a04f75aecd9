"""What an upload says of itself (title, artist, cover …), to be carried over to its stems.

ffmpeg reads it, as it reads the sound: every container it decodes, in a child, so a hostile file can only kill that.
(mutagen, the usual library, is under the GPL, and this program is not; tinytag cannot write.) Whatever goes wrong here
costs the tags, never the song.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stems.separate import audio, leash

# What is true of a stem as of the song. Not carried over: loudness, gaps and encoder, which are the song's own.
_KEPT = ("artist", "album", "album_artist", "composer", "date", "disc", "track", "genre", "copyright")
_LONGEST = 500
_TIMEOUT_S = 20.0
_COVER = re.compile(rb"  Stream #0:(\d+).*?: Video: .*\(attached pic\)")
_COVER_PIXELS = 1000  # on its longer side; the file is in every stem
_MOST_PIXELS = 100_000_000
_COVER_BYTES = 5_000_000


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
    told = _ffmpeg("info", path, "-map", "0:a:0", "-c", "copy", "-t", "0", "-f", "ffmetadata", "pipe:1")
    if not told:
        return Tags()
    given = _parse(told.stdout.decode(errors="replace"))
    others = {key: given[key] for key in _KEPT if given.get(key)}
    found = _COVER.search(told.stderr)
    return Tags(given.get("title", ""), others, cover if found and _cover(path, found[1].decode(), cover) else None)


def _cover(path: Path, stream: str, cover: Path) -> bool:
    """Make the cover anew: so what goes into the stems is small, and a JPEG that every player shows."""
    size = f"min({_COVER_PIXELS}/max(iw\\,ih)\\,1)"
    scale = f"scale=w='max(2\\,trunc(iw*{size}))':h='max(2\\,trunc(ih*{size}))',format=yuvj420p"
    made = _ffmpeg(
        "error", path, "-map", f"0:{stream}", "-frames:v", "1", "-vf", scale, "-c:v", "mjpeg", "-q:v", "3",
        "-f", "image2pipe", "pipe:1",
    )  # fmt: skip
    if not made or not 0 < len(made.stdout) <= _COVER_BYTES:
        return False
    cover.write_bytes(made.stdout)
    return True


def _ffmpeg(level: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    """Run ffmpeg on a file; None where it fails."""
    command = [audio.ffmpeg(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", level]
    command += ["-max_pixels", str(_MOST_PIXELS), *audio.input_arguments(path), *arguments]
    command = leash.leashed(command, _TIMEOUT_S)
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_TIMEOUT_S, process_group=0
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None


def _parse(text: str) -> dict[str, str]:
    """Read ffmpeg's metadata file: `key=value`, with a backslash before =, ;, #, \\ and line ends.

    Of the same key, the file's own value is kept, not its stream's.
    """
    given: dict[str, str] = {}
    for line in re.findall(r"^(?:[^\\\n]|\\.|\\\n)+", text, re.MULTILINE):
        key, separator, value = line.partition("=")
        if separator and not key.startswith((";", "#", "[")):
            plain = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
            given.setdefault(key.lower(), " ".join(plain.replace("\0", "").split())[:_LONGEST])
    return given
