"""What the decoder touches while it reads what strangers sent: its own file, no other, and no network."""

import re
import subprocess
from pathlib import Path

import pytest

from stems.errors import BadAudio
from stems.separate import audio, leash, tags
from tests.audio import RATE_HZ, ffmpeg, ffmpeg_bytes, make
from tests.hostile.corpus import File, corpus, silence
from tests.programs import need
from tests.servers import free_port

KINDS = {"playlist", "names another file"}
# What any program of its kind reads when it starts; of /proc, where the secrets of processes lie, the machine alone.
_SYSTEM = re.compile(r"/(sys|dev|usr|lib|lib64)/|/etc/(ld\.so|localtime)|/proc/(cpuinfo|meminfo|stat|self/maps)$|pipe:")
_CALLS = "trace=%network,open,openat,openat2,creat,execve,unlink,rename,mkdir"


def test_a_file_that_names_others_reaches_nothing(tmp_path: Path) -> None:
    strace = need("strace")
    secret = make(tmp_path / "secret.mp3", "-c:a", "libmp3lame")
    port = free_port()
    named = [file for file in corpus(str(secret), port) if file.kind in KINDS]
    assert len(named) > 30
    for file in named:
        found = _watched(strace, file, tmp_path)
        assert not found, (file.name, found)


def test_the_watch_sees_what_is_to_be_seen(tmp_path: Path) -> None:
    """Without the lists of formats and protocols the same files do reach others: the test above can fail."""
    strace = need("strace")
    secret = make(tmp_path / "secret.mp3", "-c:a", "libmp3lame")
    path, log = tmp_path / "upload", tmp_path / "log"
    for name, reached in (("0.ffconcat", str(secret)), ("4.ffconcat", "/proc/self/environ")):
        path.write_bytes(next(file.data for file in corpus(str(secret), 9) if file.name == name))
        command = [audio.ffmpeg(), "-nostdin", "-v", "quiet", "-safe", "0", "-i", str(path), "-f", "null", "-"]
        subprocess.run([strace, "-f", "-qq", "-e", _CALLS, "-o", str(log), *command], check=False)
        assert _strange(log, path) == [reached]


def _watched(strace: str, file: File, folder: Path) -> list[str]:
    """Decode a file and read its tags under strace; return what was touched and is not its own."""
    path, log, program = folder / "upload", folder / "log", folder / "watched"
    path.write_bytes(file.data)
    program.write_text(f'#!/bin/sh\nexec {strace} -f -qq -e {_CALLS} -A -o {log} {audio.ffmpeg()} "$@"\n')
    program.chmod(0o755)
    log.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
        tags.read(path, folder / "cover.jpg")
        with pytest.raises(BadAudio):
            audio.decode(path, folder / "song.f32", sample_rate_hz=RATE_HZ, channels=2, max_duration_s=60)
    assert "execve" in log.read_text()
    return _strange(log, path)


def _strange(log: Path, own: Path) -> list[str]:
    found = []
    for line in log.read_text().splitlines():
        if "execve(" in line or "ENOENT" in line:
            continue
        opened = re.search(r'open(?:at2?)?\((?:AT_FDCWD, )?"([^"]*)"', line)
        if opened is None and re.search(r"\b(socket|connect|bind|sendto|unlink|rename|mkdir|creat)\(", line):
            found.append(line)
        elif opened and opened[1].removeprefix("file:") != str(own) and not _SYSTEM.match(opened[1]):
            found.append(opened[1])
    return found


def test_a_decoder_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "song.flac"
    path.write_bytes(silence(12))
    monkeypatch.setattr(leash, "decoding_s", lambda _: 1)
    with pytest.raises(BadAudio, match="more processor time than a song does"):
        audio.decode(path, tmp_path / "song.f32", sample_rate_hz=192_000, channels=2)


def test_a_decoder_that_takes_too_much_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "song.flac")
    monkeypatch.setattr(leash, "_ADDRESS_SPACE_KIB", 250_000)
    with pytest.raises(BadAudio):
        audio.decode(path, tmp_path / "song.f32", sample_rate_hz=RATE_HZ, channels=2)


def test_the_limits_hold_and_there_is_no_core_file() -> None:
    script = "ulimit -c; ulimit -v; ulimit -S -t; ulimit -H -t"
    done = subprocess.run(leash.leashed(["sh", "-c", script], 42.5), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(2 << 20), "43", "48"]
    done = subprocess.run(leash.leashed(["sh", "-c", script], 0), capture_output=True, text=True, check=True)
    assert done.stdout.split()[2:] == ["unlimited", "unlimited"]
    assert leash.decoding_s(0) == 0
    assert leash.decoding_s(3600) == 420


def test_arguments_are_arguments(tmp_path: Path) -> None:
    """Whatever a command has in it, no shell reads it."""
    words = ["a b", "$(touch x)", "`touch x`", ";touch x", '"', "'", "\n", "*"]
    command = leash.leashed(["printf", r"%s\0", *words], 5)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split("\0")[:-1] == words
    assert not list(tmp_path.iterdir())


def test_a_cover_of_many_pixels_costs_the_cover_alone(tmp_path: Path) -> None:
    cover, song = tmp_path / "cover.png", make(tmp_path / "song.mp3", "-c:a", "libmp3lame", duration_s=1)
    cover.write_bytes(ffmpeg_bytes("c.png", "-frames:v", "1", source=("-f", "lavfi", "-i", "color=red:s=12000x12000")))
    both = tmp_path / "both.mp3"
    ffmpeg(
        "-i", str(song), "-i", str(cover), "-map", "0:a", "-map", "1:v", "-c", "copy", "-metadata", "title=T", str(both)
    )
    found = tags.read(both, tmp_path / "made.jpg")
    assert (found.title, found.cover) == ("T", None)
