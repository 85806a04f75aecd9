"""Each of the files gives a right result or is refused with a clear reason; nothing crashes, nothing is left over.

`make test` takes every ninth; `make test-hostile` all, and prints the table of tests/README.md.
"""

import os
import random
import wave
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from stems import naming
from stems.errors import PermanentError
from stems.options import Options
from stems.separate import model as models
from stems.separate.model import Model
from stems.separate.work import separate_file
from tests.audio import ffmpeg_bytes
from tests.hostile.corpus import SEED, File, corpus
from tests.hostile.cost import Meter, meter
from tests.pipeline import Pipeline, samples, wait_for

SECRET, PORT = "/etc/passwd", 9
SHARE = int(os.environ.get("STEMS_HOSTILE_SHARE", "9"))
OPTIONS = Options.from_metadata({"x-amz-meta-stems": "vocals,no_vocals", "x-amz-meta-format": "wav-16"})
MAX_DURATION_S = 600
MOST = 680  # files
# Reading takes a reader in the worker and a decoder, its child. The most of a decoder is by a header that says 1 Hz.
READER_MIB, DECODER_MIB, PROCESSOR_S = 32, 1280, 20
KINDS = (
    *("empty", "noise", "truncated", "header that lies", "few samples", "NaN, Inf and the like", "playlist"),
    *("names another file", "archive", "image", "video without sound", "mutated", "huge tags"),
)
Table = dict[str, Counter[str]]


@cache
def files() -> tuple[File, ...]:
    return tuple(corpus(SECRET, PORT))


@pytest.fixture(scope="module")
def model() -> Model:
    return models.load("untrained", Path("models"))


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """What became of the files, by kind; printed at the end."""
    table: Table = {}
    yield table
    print("\n\n| kind | files | separated | refused |\n|---|---|---|---|")
    for kind, outcomes in table.items():
        print(f"| {kind} | {outcomes.total()} | {outcomes['separated']} | {outcomes['refused']} |")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meter]:
    with meter(tmp_path_factory.mktemp("reader")) as made:
        yield made


def test_there_are_many_and_always_the_same() -> None:
    assert 650 <= len(files()) <= MOST
    assert len({file.name for file in files()}) == len(files())
    assert tuple(corpus(SECRET, PORT)) == files()


@pytest.mark.parametrize("number", range(0, MOST, SHARE))
def test_each_is_separated_or_refused(number: int, model: Model, table: Table, tmp_path: Path) -> None:
    if number >= len(files()):
        pytest.skip("there are no more")
    file, path = files()[number], tmp_path / "upload"
    path.write_bytes(file.data)
    told: list[float] = []
    try:
        result = separate_file(
            path,
            tmp_path,
            model=model,
            options=OPTIONS,
            max_duration_s=MAX_DURATION_S,
            on_progress=lambda part, _: told.append(part),
        )
    except PermanentError as error:
        outcome, reason = "refused", str(error)
        assert reason.isprintable(), reason
        assert str(tmp_path) not in reason
        assert SECRET not in reason
        assert 10 < len(reason) < 500
    else:
        outcome = "separated"
        assert told[-1] == 1
        for made in result.stems:
            with wave.open(str(made.path)) as stem:
                assert stem.getnframes() == result.length > 0
        assert {made.path.name for made in result.stems} == {"vocals.wav", "no_vocals.wav"}
        assert {each.name for each in tmp_path.iterdir()} <= {"upload", "cover.jpg", "vocals.wav", "no_vocals.wav"}
    table.setdefault(file.kind, Counter())[outcome] += 1
    assert file.kind not in _NEVER or outcome == "refused", "what names others must not be read"
    assert file.kind not in _ALWAYS or outcome == "separated", "it is a good song"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux alone")
@pytest.mark.parametrize("number", range(0, MOST, SHARE))
def test_each_costs_no_more_than_it_may(number: int, reader: Meter, tmp_path: Path) -> None:
    if number >= len(files()):
        pytest.skip("there are no more")
    path = tmp_path / "upload"
    path.write_bytes(files()[number].data)
    cost = reader.read(path, MAX_DURATION_S)
    assert cost.reader_mib < READER_MIB
    assert cost.decoder_mib < DECODER_MIB
    assert cost.processor_s < PROCESSOR_S
    assert not cost.left


_NEVER = {
    "empty",
    "text",
    "zeros",
    "playlist",
    "archive",
    "image",
    "video without sound",
    "12 hours of silence in 70 kB",
}
_ALWAYS = {"huge tags"}


def test_good_ones_among_them_are_separated(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(ffmpeg_bytes("good.flac", "-c:a", "flac", duration_s=0.3))
    result = separate_file(
        path, tmp_path, model=model, options=OPTIONS, max_duration_s=10, on_progress=lambda part, left: None
    )
    assert result.length == 13230


def some() -> Iterator[File]:
    """Yield those that go through the whole pipeline: one of each of thirteen kinds, or every ninth file."""
    if SHARE == 1:
        yield from files()[::9]
        return
    choice = random.Random(SEED)
    for kind in KINDS:
        yield choice.choice([file for file in files() if file.kind == kind])


@pytest.mark.timeout(900)  # on a busy machine so many songs take longer than one test may
def test_some_through_the_whole_pipeline(pipeline: Pipeline, tmp_path: Path) -> None:
    etags: dict[str, str] = {}
    workers = _processes(pipeline.stack.pid("pipeline:separate"))
    for number, file in enumerate(some()):
        path = tmp_path / str(number)
        path.write_bytes(file.data)
        key = f"hostile/{number} {file.kind}/{file.name}"
        etags[key] = pipeline.put(path, key)
    outcomes: Counter[str] = Counter()
    for key, etag in etags.items():
        state = pipeline.ended(key, etag, 300)["state"]
        if state == "done":
            stems = pipeline.done(key, etag)["stems"]
            assert {len(samples(pipeline.download(stem["url"]))) > 0 for stem in stems} == {True}, key
        else:
            job = pipeline.settled(key, etag)
            assert job["error"].isprintable(), key
            assert len(job["error"]) > 10, key
            assert pipeline.get(f"/v1/jobs/{naming.job_id('queue', key, etag)}")["error"] == job["error"]
        outcomes[state] += 1
        assert state == "failed" or not any(f" {kind}/" in key for kind in _NEVER), key
    assert outcomes["done"]
    assert outcomes["failed"]
    # Nothing of them is left where the worker works, and it is the same one.
    wait_for("empty scratch folders", lambda: not list((pipeline.stack.root / "tmp").glob("stems-worker-*")))
    assert len(workers) == 2, "gunicorn's own process, and the one that separates"
    assert _processes(pipeline.stack.pid("pipeline:separate")) == workers


def _processes(pid: int) -> list[int]:
    """Return a process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _processes(int(child)))]
