"""From a song to its files: one way for the service and the command line."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stems.errors import BadAudio, BadStems
from stems.options import Options
from stems.separate import headers
from stems.separate.audio import Decoding
from stems.separate.model import Model, Part
from stems.separate.work import OnProgress, Result, separate_file
from tests.audio import CODECS, RATE_HZ, ffmpeg, make
from tests.programs import need

SOURCES = ("drums", "bass", "other", "vocals")


class Times(torch.nn.Module):
    """A network that gives the mix, times a factor of its own, as every source; it counts the segments."""

    def __init__(self, factors: list[float]) -> None:
        super().__init__()
        self.factors = torch.tensor(factors)[None, :, None, None]
        self.calls = 0

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return mix[:, None] * self.factors


def model_of(*factors: float, rate_hz: int = RATE_HZ) -> Model:
    part = Part(Times(list(factors)), (1.0,) * 4, rate_hz)
    return Model("test", SOURCES, rate_hz, 2, (part,), "")


@dataclass
class Told:
    """What was told of the progress."""

    parts: list[float] = field(default_factory=list)
    left_s: list[float | None] = field(default_factory=list)

    def __call__(self, part: float, left_s: float | None) -> None:
        self.parts.append(part)
        self.left_s.append(left_s)


def separate(path: Path, folder: Path, model: Model, on_progress: OnProgress | None = None, **more: Any) -> Result:
    need("ffmpeg")
    asked = {name: more.pop(name) for name in ("stems", "formats") if name in more}
    return separate_file(
        path,
        folder,
        model=model,
        options=Options(**asked),
        max_duration_s=0,
        on_progress=on_progress or Told(),
        **more,
    )


def samples(path: Path) -> NDArray[np.float32]:
    return np.frombuffer(ffmpeg("-i", str(path), "-map", "0:a", "-f", "f32le", "pipe:1"), "<f4").reshape(-1, 2)


def test_stems_are_files_of_the_songs_length_and_tell_of_it(tmp_path: Path) -> None:
    song = make(tmp_path / "song.flac", *CODECS["song.flac"], "-metadata", "title=Song", "-metadata", "artist=She")
    told, model = Told(), model_of(0.1, 0.2, 0.3, 0.4)
    result = separate(song, tmp_path, model, told, stems=("vocals", "no_vocals"), formats=("mp3", "wav-32f"))
    assert [(made.stem, made.format, made.quality) for made in result.stems] == [
        ("vocals", "mp3", "320"), ("vocals", "wav", "32f"), ("no_vocals", "mp3", "320"), ("no_vocals", "wav", "32f"),
    ]  # fmt: skip
    assert {headers.read(made.path) for made in result.stems} == {headers.Sound(4 * RATE_HZ, RATE_HZ)}
    assert model.parts[0].network.calls == 6  # segments: what is asked for costs no second pass
    # Nothing but the files is left.
    left = {"song.flac", "vocals.mp3", "vocals.wav", "no_vocals.mp3", "no_vocals.wav"}
    assert {path.name for path in tmp_path.iterdir()} == left
    mix, vocals, rest = (samples(tmp_path / name) for name in ("song.flac", "vocals.wav", "no_vocals.wav"))
    np.testing.assert_allclose(vocals + rest, mix, atol=1e-6)
    mean = mix.mean()  # demucs takes the song's mean away and gives it back to every stem
    np.testing.assert_allclose(vocals, 0.4 * (mix - mean) + mean, atol=1e-5)
    text = ffmpeg("-i", str(tmp_path / "vocals.mp3"), "-f", "ffmetadata", "pipe:1").decode()
    assert "title=Song - vocals" in text
    assert "artist=She" in text
    assert (result.gain_db, result.duration_s) == (0, 4)
    assert set(result.peaks) == {"vocals", "no_vocals"}
    assert max(result.peaks["vocals"]) == int(np.ceil(255 * float(np.abs(vocals).max()) - 1e-6))
    assert told.parts == sorted(told.parts)
    assert (told.parts[-1], told.left_s[-1]) == (1, 0)
    assert told.left_s[0] is not None
    assert told.left_s[0] > 0


@pytest.mark.parametrize("factor", [0.9, 4.0])
def test_where_a_stem_would_clip_all_are_lowered_and_still_add_up(factor: float, tmp_path: Path) -> None:
    # Quiet at first: the encoder is at work when the first sample clips.
    song = make(tmp_path / "song.wav", "-c:a", "pcm_f32le", "-af", "volume='if(lt(t,3),0.1,1)':eval=frame")
    result = separate(song, tmp_path, model_of(1 - factor, 0, 0, factor), formats=("wav-32f", "mp3"))
    stems = {made.stem: samples(made.path) for made in result.stems if made.format == "wav"}
    gain = 10 ** (result.gain_db / 20)
    assert (gain < 0.9) == (factor == 4)
    highest = max(float(np.abs(stem).max()) for stem in stems.values())
    assert highest <= 1
    if factor == 4:
        assert highest == pytest.approx(0.999, abs=1e-4)
    mix = samples(song)
    np.testing.assert_allclose(sum(stems.values()), gain * (mix + 3 * mix.mean()), atol=2e-4)
    assert {headers.read(made.path).length for made in result.stems} == {4 * RATE_HZ}
    assert max(result.peaks["vocals"]) == int(np.ceil(255 * float(np.abs(stems["vocals"]).max()) - 1e-3))


@pytest.mark.parametrize("factor", [float("nan"), 3e38])
@pytest.mark.parametrize("formats", [("mp3",), ("wav-32f", "flac")])
def test_a_network_that_makes_no_sound_is_told(factor: float, formats: tuple[str, ...], tmp_path: Path) -> None:
    song = make(tmp_path / "song.wav", "-c:a", "pcm_f32le", "-af", "volume=20")
    with pytest.raises(BadStems, match="the model makes no sound of this song"):
        separate(song, tmp_path, model_of(0.1, 0.2, 0.3, factor), formats=formats)


def helpers() -> list[str]:
    """Return the names of all threads but those that compute, which stay."""
    return sorted(each.name for each in threading.enumerate() if not each.name.startswith("lane"))


@pytest.mark.parametrize("segments", [1, 3])
def test_what_the_progress_raises_ends_the_work_at_that_segment(segments: int, tmp_path: Path) -> None:
    song, before = make(tmp_path / "song.wav", duration_s=10), helpers()
    model = model_of(0.25, 0.25, 0.25, 0.25)
    seen: list[float] = []

    def stop(part: float, left_s: float | None) -> None:
        seen.append(part)
        if len(seen) == segments:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        separate(song, tmp_path, model, stop)
    # Those that were in work by then are the last.
    assert segments <= model.parts[0].network.calls <= segments + 1
    assert helpers() == before


@pytest.mark.parametrize("length", [1, 2, 15])
def test_a_song_of_one_sample_has_stems(length: int, tmp_path: Path) -> None:
    song = tmp_path / "click.wav"
    ffmpeg("-f", "lavfi", "-i", click(length), "-c:a", "pcm_f32le", str(song))
    result = separate(song, tmp_path, model_of(0.25, 0.25, 0.25, 0.25), formats=("mp3", "wav"))
    assert {headers.read(made.path).length for made in result.stems} == {length}
    assert {len(points) for points in result.peaks.values()} == {length}
    with pytest.raises(BadAudio, match=f"the song has {length} samples; FLAC begins at 16"):
        separate(song, tmp_path, model_of(0.25, 0.25, 0.25, 0.25), formats=("flac",))


def click(length: int) -> str:
    return f"aevalsrc=0.5|0.25:s={RATE_HZ}:d=1,atrim=end_sample={length}"


def test_silence_gives_silence(tmp_path: Path) -> None:
    song = tmp_path / "silence.wav"
    ffmpeg("-f", "lavfi", "-i", f"anullsrc=r={RATE_HZ}:cl=stereo:d=2", str(song))
    result = separate(song, tmp_path, model_of(0.25, 0.25, 0.25, 0.25), formats=("wav-32f",))
    assert all(not samples(made.path).any() for made in result.stems)
    assert {max(points) for points in result.peaks.values()} == {0}


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 22050])
def test_a_decoding_that_began_earlier_is_used_where_it_fits(rate_hz: int, tmp_path: Path) -> None:
    song = make(tmp_path / "song.flac", *CODECS["song.flac"])
    decoding = Decoding(song, tmp_path / "song.f32")
    try:
        result = separate(
            song, tmp_path, model_of(0.25, 0.25, 0.25, 0.25, rate_hz=rate_hz), decoding=decoding, formats=("wav",)
        )
    finally:
        decoding.stop()
    assert {headers.read(made.path) for made in result.stems} == {headers.Sound(4 * rate_hz, rate_hz)}


def test_what_is_no_song_is_told_of_a_decoding_that_began_earlier(tmp_path: Path) -> None:
    path = tmp_path / "text.mp3"
    path.write_text("no song")
    decoding = Decoding(path, tmp_path / "song.f32")
    try:
        with pytest.raises(BadAudio, match="not an audio file"):
            separate(path, tmp_path, model_of(0.25, 0.25, 0.25, 0.25), decoding=decoding)
    finally:
        decoding.stop()


def test_a_decoding_that_is_stopped_ends(tmp_path: Path) -> None:
    song, before = make(tmp_path / "song.flac", *CODECS["song.flac"], duration_s=60), helpers()
    Decoding(song, tmp_path / "song.f32").stop()
    assert helpers() == before
