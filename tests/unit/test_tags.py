"""Tags: what an upload says of itself is said of its stems; what is true of the song alone is not."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from stems.separate import tags
from stems.separate.tags import Tags
from tests.audio import CODECS, ffmpeg, make

TITLE = "Für Élise = 愛 \\ ; #1"
GIVEN = {"title": TITLE, "artist": "Sigur Rós", "album": "Ágætis", "track": "3/9", "date": "1999"}


def tagged(path: Path, *arguments: str) -> Path:
    metadata = [item for key, value in GIVEN.items() for item in ("-metadata", f"{key}={value}")]
    return make(path, *arguments, *metadata, "-metadata", "replaygain_track_gain=-9 dB", duration_s=0.5)


@pytest.mark.parametrize("name", [name for name in CODECS if name not in {"song.aiff", "vbr.mp3"}])
def test_the_tags_of_every_usual_format_are_read(name: str, tmp_path: Path) -> None:
    found = tags.read(tagged(tmp_path / name, *CODECS[name]), tmp_path / "cover.jpg")
    assert (found.title, found.others["artist"], found.cover) == (TITLE, "Sigur Rós", None)
    assert set(found.others) == set(GIVEN) - {"title"}


def test_a_stem_says_of_which_song_it_is() -> None:
    assert Tags("Song", {"artist": "She"}).of("vocals", "file") == {"title": "Song - vocals", "artist": "She"}
    assert Tags().of("no_vocals", "file") == {"title": "file - no_vocals"}


def test_a_file_without_tags_or_without_sound_has_none(tmp_path: Path) -> None:
    bare = make(tmp_path / "bare.wav", "-fflags", "+bitexact", duration_s=0.5)
    assert tags.read(bare, tmp_path / "cover.jpg") == Tags()
    (tmp_path / "text.mp3").write_text("no song")
    assert tags.read(tmp_path / "text.mp3", tmp_path / "cover.jpg") == Tags()


def test_a_long_value_on_several_lines_is_one_line_of_bounded_length(tmp_path: Path) -> None:
    path = make(tmp_path / "song.flac", "-metadata", "title=one\ntwo", "-metadata", "artist=" + "x" * 5000)
    found = tags.read(path, tmp_path / "cover.jpg")
    assert found.title == "one two"
    assert len(found.others["artist"]) == 500


def peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def with_title(path: Path, title: str) -> Path:
    """Make a song with a title that is too long for a command."""
    about, plain = path.with_suffix(".txt"), make(path.with_name(f"plain-{path.name}"), *CODECS[path.name])
    about.write_text(f";FFMETADATA1\ntitle={title}\nartist=She\n")
    ffmpeg("-i", str(plain), "-f", "ffmetadata", "-i", str(about), "-map_metadata", "1", "-c", "copy", str(path))
    assert path.stat().st_size > len(title) / 2
    return path


@pytest.mark.parametrize("name", ["song.mp3", "song.ogg", "song.m4a"])
def test_a_title_of_many_megabytes_takes_no_memory(name: str, tmp_path: Path) -> None:
    path, cover = with_title(tmp_path / name, "x" * 40_000_000), tmp_path / "cover.jpg"
    assert peak_mb(lambda: tags.read(path, cover)) < 4
    assert tags.read(path, cover) == Tags()


@pytest.mark.parametrize("letter", ["x", "\\;", "é"])
def test_a_long_title_takes_no_more_memory_than_its_bytes(letter: str, tmp_path: Path) -> None:
    path, found = with_title(tmp_path / "song.mp3", letter * 100_000), [Tags()]
    assert peak_mb(lambda: found.append(tags.read(path, tmp_path / "cover.jpg"))) < 4
    assert found[-1].others == {"artist": "She"}
    assert found[-1].title == letter[-1] * 500


@pytest.mark.parametrize(("size", "shown"), [("3000x1500", "1000x500"), ("64x48", "64x48"), ("1x3000", "2x1000")])
@pytest.mark.parametrize("name", ["song.mp3", "song.flac", "song.m4a"])
def test_the_cover_is_made_small(name: str, size: str, shown: str, tmp_path: Path) -> None:
    cover = tmp_path / "cover.jpg"
    assert tags.read(with_cover(tmp_path, name, size), cover).cover == cover
    assert cover.read_bytes()[:3] == b"\xff\xd8\xff"
    assert shown in ffmpeg("-f", "jpeg_pipe", "-i", str(cover), "-vf", "showinfo", "-f", "framecrc", "-").decode()


def test_a_title_is_not_taken_for_a_stream(tmp_path: Path) -> None:
    title = "  Stream #0:7: Video: (attached pic)"
    found = tags.read(with_cover(tmp_path, "song.mp3", "64x48", title), tmp_path / "cover.jpg")
    assert found == Tags(" ".join(title.split()), {}, tmp_path / "cover.jpg")


def test_a_damaged_cover_costs_the_cover_alone(tmp_path: Path) -> None:
    path = with_cover(tmp_path, "song.mp3", "64x48", title="Song")
    data = path.read_bytes()
    at = data.index(b"\x89PNG") + 20
    path.write_bytes(data[:at] + bytes(len(data[at : data.index(b"IEND")])) + data[data.index(b"IEND") :])
    found = tags.read(path, tmp_path / "cover.jpg")
    assert (found.title, found.cover) == ("Song", None)


def test_a_video_is_no_cover(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4", "-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-map", "0", "-map", "1")
    assert tags.read(path, tmp_path / "cover.jpg").cover is None


def with_cover(folder: Path, name: str, size: str, title: str = "", duration_s: float = 0.5) -> Path:
    art, plain = folder / "art.png", make(folder / f"plain-{name}", *CODECS[name], duration_s=duration_s)
    ffmpeg("-f", "lavfi", "-i", f"color=red:s={size}:d=0.04", "-frames:v", "1", str(art))
    command = ["-i", str(plain), "-i", str(art), "-map", "0", "-map", "1", "-c", "copy"]
    ffmpeg(*command, "-disposition:v", "attached_pic", "-metadata", f"title={title}", str(folder / name))
    return folder / name
