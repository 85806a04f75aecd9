"""Under which name a browser saves a stem, or all of them."""

import re
import unicodedata
from urllib.parse import quote

from werkzeug.http import dump_options_header

from stems import printable
from stems.naming import song_name
from stems.record import Stem, Track

# Only what looks like an extension: the end of "Mr. Brightside" or of "Take 1.5" is none.
_EXTENSION = re.compile(r"(?<=.)\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,5}$")
_SEPARATORS = frozenset('/\\"')
_ATTRIBUTE_CHARACTERS = "!#$&+-.^_`|~"  # RFC 5987, beside letters and digits


def attachment(track: Track, stem: Stem) -> str:
    """Return the value of Content-Disposition (RFC 6266): `<song> - <stem>.<format>`, in ASCII for old clients too."""
    return _disposition(_song(track), f" - {stem.stem}.{stem.format}")


def archive(track: Track) -> str:
    """Return the value of Content-Disposition for all stems: `<song>.zip`."""
    return _disposition(_song(track), ".zip")


def member(track: Track, stem: Stem) -> str:
    """Return the name of a stem within the archive: in a folder, so that two archives do not mix."""
    song = _safe(_song(track))
    return f"{song}/{song} - {stem.stem}.{stem.format}"


def _song(track: Track) -> str:
    return _EXTENSION.sub("", song_name(track.name)) or "song"


def _disposition(song: str, suffix: str) -> str:
    name = _safe(song) + suffix
    if name.isascii():
        return dump_options_header("attachment", {"filename": name})
    ascii_song = unicodedata.normalize("NFKD", _safe(song)).encode("ascii", "ignore").decode().strip()
    ascii_name = (ascii_song if any(map(str.isalnum, ascii_song)) else "song") + suffix
    encoded = f"UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"
    return dump_options_header("attachment", {"filename": ascii_name, "filename*": encoded})


def _safe(name: str) -> str:
    """Replace what would break the header or name a folder."""
    return "".join("_" if c in _SEPARATORS else c for c in printable.replaced(name, "_"))
