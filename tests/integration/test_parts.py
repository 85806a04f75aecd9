"""A song made in parts on a real MinIO, beside the same song made whole: sample for sample the same files."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray

from stems import naming
from stems.config import EXACT, FAST, PRECISIONS, Settings
from stems.contract import Upload
from stems.errors import ObjectGone, TransientError
from stems.options import Options
from stems.record import Asked
from stems.separate import model as models
from stems.separate import parts
from stems.separate.audio import Song
from stems.separate.model import Model
from stems.separate.plan import Plan, plan_id
from stems.separate.publish import Finished, Publisher
from stems.separate.shelf import Shelf
from stems.separate.work import Stages, separate_file
from stems.storage import Storage
from tests import networks
from tests.audio import CODECS, ffmpeg, make
from tests.minio_server import SECRETS, minio
from tests.unit.test_engine import FOUR, RATE_HZ, hdemucs, htdemucs, model_of
from tests.unit.test_tags import with_cover

SEGMENT_S, STRIDE_S = 1.0, 0.75  # of the small networks


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with minio(tmp_path_factory.mktemp("minio")) as (server, _):
        keys = {"STEMS_S3_ACCESS_KEY": "separate", "STEMS_S3_SECRET_KEY": SECRETS["separate"]}
        yield Storage(Settings.from_env({"STEMS_S3_ENDPOINT": f"http://{server.endpoint}", **keys}))


class Parted:
    """One song in parts: what the workers do, one after the other."""

    def __init__(self, storage: Storage, path: Path, model: Model, options: Options, part_s: float) -> None:
        self.songhash = hashlib.sha256(path.read_bytes()).hexdigest()
        self.storage, self.path, self.model, self.options, self.part_s = storage, path, model, options, part_s
        self.shelf = Shelf(storage, self.songhash, plan_id(self.songhash, options, model))
        self.publisher = Publisher(storage, lambda job: None)
        self.told: list[float] = []

    def decode(self, folder: Path, places: int = 0) -> Song | Plan:
        folder.mkdir()
        return parts.decode(
            self.path, folder, self.shelf, name="song", model=self.model, options=self.options, max_duration_s=0,
            part_s=self.part_s, places=places, on_long=lambda: None, stages=Stages(),
        )  # fmt: skip

    def plan(self, folder: Path, places: int = 0) -> Plan:
        found = self.decode(folder, places)
        assert isinstance(found, Plan)
        assert sorted(file.name for file in folder.iterdir() if file.suffix == ".f32") == []  # the disk is free
        return found

    def make(self, plan: Plan, part: str, folder: Path) -> None:
        folder.mkdir()
        parts.make(self.shelf, plan, part, folder, self.model, lambda part, left_s: self.told.append(part))

    def finish(self, plan: Plan, folder: Path) -> dict[tuple[str, str], bytes]:
        """Do what is missing, as long as something is; return the files by stem and format."""
        for number in range(3):
            missing = parts.missing(self.shelf, plan)
            for each in missing.parts if missing else ():
                place = folder / f"{number}-{each.name}"
                if each.name in plan.parts:
                    self.make(plan, each.name, place)
                else:
                    place.mkdir()
                    parts.join_stem(self.shelf, plan, each.name, place, self.told.append)
        assert parts.missing(self.shelf, plan) is None
        (folder / "end").mkdir()
        stages = Stages()
        stems, self.peaks = parts.join_all(self.shelf, plan, folder / "end", self.publisher, self.told.append, stages)
        upload = Upload("queue", "song", "etag", 0, {})
        done = Finished(upload, self.songhash, self.model, Asked(), plan.length, stems, self.peaks, stages.seconds)
        self.track = self.publisher.publish(done, folder / "end")
        self.shelf.clear()
        return {(stem.stem, stem.format): self.storage.open(stem.object).data for stem in stems}


def whole(path: Path, folder: Path, model: Model, options: Options) -> tuple[Any, dict[tuple[str, str], bytes]]:
    folder.mkdir()
    result = separate_file(
        path, folder, model=model, options=options, max_duration_s=0, on_progress=lambda part, left_s: None, name="song"
    )
    return result, {(made.stem, made.format): made.path.read_bytes() for made in result.stems}


def samples(audio: bytes, path: Path) -> NDArray[np.float32]:
    path.write_bytes(audio)
    return np.frombuffer(ffmpeg("-i", str(path), "-map", "0:a", "-f", "f32le", "pipe:1"), "<f4")


def small_bag() -> Model:
    return model_of(htdemucs(), htdemucs(seed=2), weights=[[1.0, 1, 0, 1], [1, 0, 1, 0]])


LOSSLESS = ("flac", "wav-32f")


@pytest.mark.parametrize(
    ("count", "length", "model", "stems", "formats"),
    [
        # One, two and seventeen divisions; odd lengths; a last part, and a last segment, shorter than a segment.
        (2, 4 * 6000, model_of(htdemucs()), (), LOSSLESS),
        (3, 8 * 6000 + 4321, model_of(htdemucs()), (), (*LOSSLESS, "mp3")),
        (17, 17 * 6000 - 5987, model_of(htdemucs()), (), ("flac",)),
        (3, 7 * 6000 + 1, model_of(hdemucs()), ("vocals",), ("wav",)),
        (3, 7 * 6000 + 1500, model_of(htdemucs(use_train_segment=False)), ("vocals", "no_vocals"), LOSSLESS),
        (3, 40_111, small_bag(), (), LOSSLESS),
    ],
    ids=["2", "3", "17", "hdemucs", "any length", "bag"],
)
def test_parts_give_the_same_samples_as_the_whole(
    count: int, length: int, model: Model, stems: tuple[str, ...], formats: tuple[str, ...], storage: Storage,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "song.wav"
    ffmpeg("-f", "lavfi", "-i", f"anoisesrc=r={RATE_HZ}:seed={count}:a=0.3:d=60,atrim=end_sample={length}",
           "-ac", "2", "-metadata", "title=Noise", str(path))  # fmt: skip
    duration_s = length / RATE_HZ
    options = Options(stems=stems, formats=formats)
    parted = Parted(storage, path, model, options, part_s=duration_s * len(model.parts) / count + 1e-6)
    plan = parted.plan(tmp_path / "plan")
    assert len(plan.parts) == count
    assert Plan.from_json(plan.to_json()) == plan == parted.shelf.plan()
    found = parted.finish(plan, tmp_path)
    result, wanted = whole(path, tmp_path / "whole", model, options)
    assert found.keys() == wanted.keys()
    for (stem, format), audio in wanted.items():
        assert found[stem, format] == audio, (stem, format)  # tags and all
    assert dict(parted.peaks) == dict(result.peaks)
    assert parted.track.duration_s == round(result.duration_s, 3)
    assert {stem.gain_db for stem in parted.track.stems} == {result.gain_db}
    assert {"decode", "fetch", "separate", "encode", "put"} <= parted.track.stages_s.keys()
    # Nothing is left of the parts.
    assert storage.names(naming.part_folder(parted.songhash)) == []


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a network of htdemucs' kind, `small`: one that our blocks and kernels compute."""
    folder = tmp_path_factory.mktemp("models")
    networks.write(folder, "5a11", HTDemucs, FOUR, {"segment": Fraction(1), "channels": 8, "t_layers": 1, "t_heads": 2})
    (folder / "small.yaml").write_text("models: [5a11]\n")
    return folder


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("count", "strides", "more"), [(2, 4, 0), (3, 8, 4321), (17, 17, -5987)])
def test_parts_computed_in_blocks_are_those_of_the_whole(
    precision: str, count: int, strides: int, more: int, hybrid: Path, storage: Storage, tmp_path: Path
) -> None:
    model = models.load("small", hybrid, precision)
    assert (model.in_blocks, model.precision, model.at_once > 1) == (True, precision, True)
    rate_hz = model.sample_rate_hz
    length = strides * int(STRIDE_S * rate_hz) + more
    path = tmp_path / "song.wav"
    ffmpeg("-f", "lavfi", "-i", f"anoisesrc=r={rate_hz}:seed={count}:a=0.3:d=60,atrim=end_sample={length}",
           "-ac", "2", str(path))  # fmt: skip
    options = Options(formats=("flac", "wav-32f"))
    parted = Parted(storage, path, model, options, part_s=length / rate_hz / count + 1e-6)
    plan = parted.plan(tmp_path / "plan")
    assert len(plan.parts) == count
    found = parted.finish(plan, tmp_path)
    result, wanted = whole(path, tmp_path / "whole", model, options)
    assert found == wanted
    assert dict(parted.peaks) == dict(result.peaks)


def test_each_precision_gives_other_samples(hybrid: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "song.wav", *CODECS["song.wav"], duration_s=2)
    options = Options(stems=("vocals",), formats=("wav-32f",))
    found = []
    for precision in PRECISIONS:
        _, files = whole(path, tmp_path / precision, models.load("small", hybrid, precision), options)
        found.append(files["vocals", "wav"])
    assert len(set(found)) == len(PRECISIONS)


@pytest.mark.parametrize("precision", [EXACT, FAST])
def test_parts_of_a_song_that_clips_have_the_gain_of_the_whole(
    precision: str, hybrid: Path, storage: Storage, tmp_path: Path
) -> None:
    model = models.load("small", hybrid, precision)
    path = make(tmp_path / "song.wav", "-c:a", "pcm_f32le", "-af", "volume=500", duration_s=17.7)
    options = Options(formats=("wav-32f", "flac"))
    parted = Parted(storage, path, model, options, part_s=6)
    plan = parted.plan(tmp_path / "plan")
    assert len(plan.parts) == 3
    found = parted.finish(plan, tmp_path)
    result, wanted = whole(path, tmp_path / "whole", model, options)
    for (stem, format), audio in wanted.items():
        ours, theirs = samples(found[stem, format], tmp_path / "a"), samples(audio, tmp_path / "b")
        np.testing.assert_array_equal(ours, theirs)
    assert {stem.gain_db for stem in parted.track.stems} == {result.gain_db}
    assert result.gain_db < 0


def test_a_song_with_a_cover_has_it_in_the_files_that_its_parts_are_joined_to(storage: Storage, tmp_path: Path) -> None:
    path = with_cover(tmp_path, "song.flac", "64x48", title="Song", duration_s=13)
    model, options = models.load("untrained", tmp_path), Options(stems=("vocals",), formats=("mp3", "flac", "wav"))
    parted = Parted(storage, path, model, options, part_s=7)
    found = parted.finish(parted.plan(tmp_path / "plan"), tmp_path)
    _, wanted = whole(path, tmp_path / "whole", model, options)
    assert found == wanted
    cover = (tmp_path / "whole" / "cover.jpg").read_bytes()
    assert [cover in found["vocals", format] for format in ("mp3", "flac", "wav")] == [True, True, False]


def test_a_long_song_is_joined_stem_by_stem(storage: Storage, tmp_path: Path) -> None:
    model, options = model_of(htdemucs()), Options(formats=("wav-32f",))
    path = tmp_path / "song.wav"
    ffmpeg("-f", "lavfi", "-i", f"anoisesrc=r={RATE_HZ}:seed=5:a=0.3:d=13", "-ac", "2", str(path))
    parted = Parted(storage, path, model, options, part_s=4)
    plan = parted.plan(tmp_path / "plan")
    assert (plan.apart, len(plan.parts), len(plan.joins)) == (True, 4, 4)
    missing = parts.missing(parted.shelf, plan)
    assert missing is not None
    assert (missing.count, missing.begin, missing.end) == (4, 0, 0.95)
    assert {each.place_s for each in missing.parts} == {13}
    parted.make(plan, plan.parts[2], tmp_path / "third")
    assert parted.told == [pytest.approx(each / len(parted.told)) for each in range(1, len(parted.told) + 1)]
    missing = parts.missing(parted.shelf, plan)
    assert missing is not None
    assert ([each.name for each in missing.parts], missing.begin) == (
        [plan.parts[0], plan.parts[1], plan.parts[3]], 0.2375,
    )  # fmt: skip
    start, stop = plan.samples(plan.parts[2])
    assert {each.place_s for each in missing.parts} == {round(13 - (stop - start) / RATE_HZ, 3)}
    for part in plan.parts:
        parted.make(plan, part, tmp_path / part)
    missing = parts.missing(parted.shelf, plan)
    assert missing is not None
    assert [(each.name, each.place_s) for each in missing.parts] == [(name, 0) for name in plan.joins]
    for name in plan.joins:
        (tmp_path / name).mkdir()
        parts.join_stem(parted.shelf, plan, name, tmp_path / name, parted.told.append)
    assert parts.missing(parted.shelf, plan) is None
    # A file of a stem is lost: whoever publishes them finds it missing, and it is made again.
    storage.remove([f"{naming.part_folder(parted.songhash, plan.id)}{plan.joins[1]}.wav"])
    (tmp_path / "published").mkdir()
    with pytest.raises(TransientError, match="a part of the song was lost"):
        parts.join_all(parted.shelf, plan, tmp_path / "published", parted.publisher, parted.told.append, Stages())
    missing = parts.missing(parted.shelf, plan)
    assert missing is not None
    assert [each.name for each in missing.parts] == [plan.joins[1]]
    found = parted.finish(plan, tmp_path)
    _, wanted = whole(path, tmp_path / "whole", model, options)
    assert found == wanted


def test_what_is_lost_of_a_divided_song_is_made_again(storage: Storage, tmp_path: Path) -> None:
    model, options = model_of(htdemucs()), Options(formats=("wav",))
    path = tmp_path / "song.wav"
    ffmpeg("-f", "lavfi", "-i", f"anoisesrc=r={RATE_HZ}:seed=6:a=0.3:d=9", "-ac", "2", str(path))
    parted = Parted(storage, path, model, options, part_s=5)
    plan = parted.plan(tmp_path / "plan")
    for part in plan.parts:
        parted.make(plan, part, tmp_path / part)
    folder = naming.part_folder(parted.songhash, plan.id)
    # The sound of a part: whoever joins finds it missing, and it is made again.
    storage.remove([f"{folder}{plan.parts[1]}-bass.f32"])
    (tmp_path / "joined").mkdir()
    with pytest.raises(TransientError, match="a part of the song was lost"):
        parts.join_all(parted.shelf, plan, tmp_path / "joined", parted.publisher, parted.told.append, Stages())
    missing = parts.missing(parted.shelf, plan)
    assert missing is not None
    assert [each.name for each in missing.parts] == [plan.parts[1]]
    # The song's own sound: the song is divided again, and the other parts still count.
    storage.remove([f"{folder}mix.f32"])
    with pytest.raises(ObjectGone):
        parted.make(plan, plan.parts[1], tmp_path / "without sound")
    assert parted.shelf.plan() is None
    plan = parted.plan(tmp_path / "plan again")
    missing = parts.missing(parted.shelf, plan)
    assert missing is not None
    assert [each.name for each in missing.parts] == [plan.parts[1]]
    _, wanted = whole(path, tmp_path / "whole", model, options)
    assert parted.finish(plan, tmp_path) == wanted


def test_a_song_that_is_not_long_is_not_divided(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    ffmpeg("-f", "lavfi", "-i", f"anoisesrc=r={RATE_HZ}:seed=7:a=0.3:d=5", "-ac", "2", str(path))
    parted = Parted(storage, path, model_of(htdemucs()), Options(), part_s=5)
    song = parted.decode(tmp_path / "song")
    assert isinstance(song, Song)
    assert torch.equal(song.read(0, 10), Song(song.path, song.length, 2, RATE_HZ, 0, 0).read(0, 10))
    assert song.path.stat().st_size == 5 * RATE_HZ * 8
    assert storage.names(naming.part_folder(parted.songhash)) == []
