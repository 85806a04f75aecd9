"""All stems in one file, and the waveforms."""

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

from stems import naming
from tests.tracks_stack import MB, SONG, Stack, problem


def test_all_stems_in_one_file(empty: Stack, tmp_path: Path) -> None:
    track = empty.put(1, name="Söng: nr. 1.mp3", vocals_mp3=SONG, drums_flac=b"drums", bass_mp3=b"")
    path = f"/v1/tracks/{track.songhash}/stems.zip"
    assert empty.get(f"/v1/tracks/{track.songhash}").json()["zip"] == path
    answer = empty.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert "filename*=UTF-8''S%C3%B6ng_%20nr.%201.zip" in answer.headers["Content-Disposition"].replace("%3A", "_")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert {info.filename.rpartition("/")[2]: archive.read(info) for info in archive.infolist()} == {
            "Söng: nr. 1 - vocals.mp3": SONG,
            "Söng: nr. 1 - drums.flac": b"drums",
            "Söng: nr. 1 - bass.mp3": b"",
        }
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.flag_bits & 0x800 for info in archive.infolist()} == {0x800}
    if shutil.which("unzip"):
        (tmp_path / "a.zip").write_bytes(answer.data)
        subprocess.run(["unzip", "-tq", str(tmp_path / "a.zip")], check=True, stdout=subprocess.DEVNULL)
    head = empty.get(path, method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.data) == (200, str(len(answer.data)), b"")
    unchanged = empty.get(path, {"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status, unchanged.data) == (304, b"")


def test_a_big_file_takes_no_memory(stack: Stack) -> None:
    track = stack.put(1, vocals_wav=bytes(60 * MB), drums_wav=bytes(60 * MB))
    before = most = stack.rss_mb()
    size = 0
    with stack.open(f"/v1/tracks/{track.songhash}/stems.zip") as response:
        for number, chunk in enumerate(response.stream(MB)):
            size += len(chunk)
            if number % 20 == 0:
                most = max(most, stack.rss_mb())
    assert size == int(response.headers["Content-Length"]) > 120 * MB
    assert most - before < 30


def test_a_stem_that_is_not_there_is_said_before_the_first_byte(empty: Stack) -> None:
    track = empty.put(1, vocals_mp3=SONG, drums_mp3=SONG)
    empty.s3.remove_object("output", track.stems[1].object)
    problem(empty.get(f"/v1/tracks/{track.songhash}/stems.zip"), 404, "drums.mp3")
    problem(empty.get(f"/v1/tracks/{'0' * 64}/stems.zip"), 404, "0" * 64)


def test_the_waveforms_are_passed_through(empty: Stack) -> None:
    plain, drawn = empty.put(1, vocals_mp3=SONG), empty.put(2, peaks=True, vocals_mp3=SONG)
    assert empty.get(f"/v1/tracks/{plain.songhash}").json()["peaks"] is None
    problem(empty.get(f"/v1/tracks/{plain.songhash}/peaks.json"), 404, plain.songhash)
    path = empty.get(f"/v1/tracks/{drawn.songhash}").json()["peaks"]
    answer = empty.get(path)
    assert (answer.headers["Content-Type"], json.loads(answer.data)["stems"]["vocals"]) == (
        "application/json",
        [0, 255],
    )
    unchanged = empty.get(path, {"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status, unchanged.data) == (304, b"")
    empty.s3.remove_object("output", naming.peaks_object(drawn.songhash))
    problem(empty.get(path), 404, drawn.songhash)
