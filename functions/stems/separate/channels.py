"""How many channels a file has, and how ffmpeg is told to make the model's of them."""

import re

from stems.errors import BadAudio

_MOST = 8
_STREAM = re.compile(r"^  Stream #0:\d+.*?: Audio: (.*)$", re.MULTILINE)
# What ffmpeg has no name for: files that say which loudspeakers their channels are for, and say so oddly.
_UNNAMED = re.compile(r" Hz, (\d+) channels\b")
# One channel is mono and two are stereo, whatever loudspeakers they are said to be for.
_PLAIN = {1: "channelmap=0:channel_layout=mono", 2: "channelmap=0|1:channel_layout=stereo"}
# swresample plays mono at -3 dB on each of two speakers; `pan` gives both the full level, and leaves stereo alone.
_TO_STEREO = "aformat=channel_layouts=stereo|mono,pan=stereo|FL<FL+FC|FR<FR+FC"


def arguments(told: str, channels: int) -> list[str]:
    """Return how ffmpeg makes so many channels of the first sound in a file of which it has `told`.

    Raises BadAudio for more channels than are mixed down.
    """
    stream = _STREAM.search(told)
    unnamed = _UNNAMED.search(stream[1]) if stream else None
    count = int(unnamed[1]) if unnamed else 0
    if count > _MOST:
        raise BadAudio(f"the file has {count} channels; up to {_MOST} are mixed down")
    filters = [_PLAIN[count]] if count in _PLAIN else []
    if channels == 2:
        filters.append(_TO_STEREO)
    return [*(("-af", ",".join(filters)) if filters else ()), "-ac", str(channels)]
