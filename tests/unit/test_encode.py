"""Encoding: the files a musician gets have the song's length, level and tags."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from stems.errors import BadOptions, EncodeFailed
from stems.options import FORMATS
from stems.separate.audio import Song
from stems.separate.encode import Encoding, Spool, encode, encode_all
from stems.separate.engine import Block
from tests.programs import need

RATE_HZ = 44100
SOURCES = ("drums", "bass", "other", "vocals")


def tone(length: int, amplitude: float = 0.5) -> NDArray[np.float32]:
    time_s = np.arange(length) / RATE_HZ
    both = np.stack([np.sin(440 * 2 * np.pi * time_s), np.sin(300 * 2 * np.pi * time_s)], 1)
    return (amplitude * both).astype("<f4")


def job(tmp_path: Path, wav: NDArray[np.float32], name: str, **more: Any) -> Encoding:
    need("ffmpeg")
    spool = tmp_path / "spool.f32"
    wav.tofile(spool)
    settings: dict[str, Any] = {"sample_rate_hz": RATE_HZ, "channels": 2, "gain": 1.0, "tags": {}} | more
    return Encoding(spool=spool, out=tmp_path / name, format=name.rsplit(".", 1)[1], **settings)


def decoded(path: Path) -> NDArray[np.float32]:
    command = [need("ffmpeg"), "-nostdin", "-v", "error", "-i", f"file:{path}", "-f", "f32le", "pipe:1"]
    return np.frombuffer(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout, "<f4").reshape(-1, 2)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("length", [1000, 1152 * 50, 100_003])
def test_a_stem_is_as_long_as_the_song_to_the_sample(format: str, length: int, tmp_path: Path) -> None:
    wav = tone(length)
    task = job(tmp_path, wav, f"stem.{format}")
    encode(task)
    found = decoded(task.out)
    assert len(found) == length
    error_db = 20 * np.log10(np.abs(found - wav)[: length - 600].std() / wav.std())
    assert error_db < (-20 if format == "mp3" else -130)


@pytest.mark.parametrize("format", ["flac", "wav"])
def test_lossless_stems_have_24_bit(format: str, tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), f"stem.{format}")
    encode(task)
    assert soundfile.info(task.out).subtype == "PCM_24"


def test_mp3_has_320_kbit_per_s(tmp_path: Path) -> None:
    task = job(tmp_path, tone(10 * RATE_HZ), "stem.mp3")
    encode(task)
    assert task.out.stat().st_size * 8 / 10 == pytest.approx(320_000, rel=0.02)
    assert b"Info" in task.out.read_bytes()[:1000]


def test_the_gain_is_applied_before_anything_clips(tmp_path: Path) -> None:
    wav = tone(RATE_HZ, amplitude=2)
    task = job(tmp_path, wav, "stem.flac", gain=0.25)
    encode(task)
    np.testing.assert_allclose(decoded(task.out), wav * 0.25, atol=2e-7)


@pytest.mark.parametrize("format", FORMATS)
def test_tags_are_written(format: str, tmp_path: Path) -> None:
    title = "Für Élise = 愛 \0\n; #1"
    task = job(tmp_path, tone(5000), f"stem.{format}", tags={"title": title, "comment": "made by stems"})
    encode(task)
    command = [need("ffmpeg"), "-v", "error", "-i", str(task.out), "-f", "ffmetadata", "-"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    assert "title=Für Élise \\= 愛" in text
    assert "comment=made by stems" in text


def test_other_rates_and_names_are_encoded(tmp_path: Path) -> None:
    task = job(tmp_path, tone(8000), "-Sigur Rós: 100%03d.mp3", sample_rate_hz=8000)
    encode(task)
    assert task.out.stat().st_size > 0


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    task = job(tmp_path, tone(5000), "stem.wav")
    task.out.write_text("old")
    encode(task)
    assert len(decoded(task.out)) == 5000


def test_a_failed_encoding_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    task = job(tmp_path, tone(10), "missing/stem.mp3")
    with pytest.raises(EncodeFailed, match=r"stem\.mp3: .*No such file"):
        encode(task)
    task.spool.unlink()
    with pytest.raises(EncodeFailed):
        list(encode_all([task]))
    assert not list(tmp_path.iterdir())


def test_all_jobs_are_encoded(tmp_path: Path) -> None:
    tasks = [job(tmp_path, tone(5000), f"{index}.{format}") for index in range(3) for format in FORMATS]
    assert set(each.out for each in encode_all(tasks)) == {each.out for each in tasks}
    assert [len(decoded(each.out)) for each in tasks] == [5000] * 9


def make_song(tmp_path: Path, length: int, amplitude: float) -> Song:
    wav = torch.rand(length, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (wav * amplitude).numpy().astype("<f4").tofile(tmp_path / "song.f32")
    return Song(tmp_path / "song.f32", length, 2, RATE_HZ, 0.0, 1.0)


@pytest.mark.parametrize("amplitude", [0.4, 3.0])
def test_a_stem_and_its_complement_add_up_to_the_song(amplitude: float, tmp_path: Path) -> None:
    song = make_song(tmp_path, 5000, amplitude)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    with Spool(tmp_path, SOURCES, ["vocals", "no_vocals"]) as spool:
        for start, stop in ((0, 3000), (3000, 5000)):
            spool.write(Block(start, song.read(start, stop) * shares), song)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no_vocals.f32", "song.f32", "vocals.f32"]
    vocals, rest = (np.fromfile(spool.path(stem), "<f4").reshape(-1, 2).T for stem in ("vocals", "no_vocals"))
    np.testing.assert_allclose(vocals, song.read(0, 5000) * 0.4, rtol=1e-6)
    np.testing.assert_allclose(vocals + rest, song.read(0, 5000), atol=1e-6)
    assert max(np.abs(vocals).max(), np.abs(rest).max()) == pytest.approx(spool.peak)
    assert spool.gain == (1 if amplitude < 1 else pytest.approx(0.999 / spool.peak))


@pytest.mark.parametrize("stem", ["piano", "no_piano", "no_no_vocals", "../vocals", ""])
def test_a_stem_the_model_does_not_make_is_refused(stem: str, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="drums, bass, other, vocals, no_drums"):
        Spool(tmp_path, SOURCES, [stem])
