"""The command line without servers: help, errors as sentences, settings, how things look, fetching models."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from stems.cli import main, terminal
from stems.cli.get import target
from stems.cli.separate import targets
from stems.cli.tail import fresh
from stems.config import Settings, environment
from stems.errors import ConfigError
from stems.separate import weights
from stems.separate.weights import Weights

BYTES = b"weights " * 1000


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of whoever runs the tests out: their variables and their `.stems/env`."""
    for name in os.environ:
        if name.startswith("STEMS_") or name in {"K_SINK", "PORT"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="stems")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict([((), main), *commands(main)])


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_a_line_of_summary_the_options_explained_and_an_example(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help").output
    assert "  Example:\n" in shown
    example = shown.split("Example:\n")[1].split("\n\n")[0]
    assert f"stems {' '.join(path)}".strip() in example
    summary = (ALL[path].help or "").split("\n")[0]
    assert len(summary) <= 75
    assert summary.endswith(".")
    for option in ALL[path].params:
        if isinstance(option, click.Option):
            assert option.help, option.name


def test_no_summary_is_cut_in_a_list_of_commands() -> None:
    for path, command in ALL.items():
        if isinstance(command, click.Group):
            assert "..." not in run(*path, "--help").output.split("Commands:")[1]


@pytest.mark.parametrize(
    ("absent", "arguments", "sentence"),
    [
        ("torch", ["separate", "song.mp3"], "stems separate needs torch and demucs: pip install 'stems[separate]'"),
        ("torch", ["model", "list"], "stems model list needs torch and demucs: pip install 'stems[separate]'"),
        ("minio", ["submit", "song.mp3"], "stems submit needs minio and httpx2: pip install 'stems[client]'"),
        ("httpx2", ["tracks"], "stems tracks needs httpx2: pip install 'stems[client]'"),
        ("httpx2", ["get", "song"], "stems get needs httpx2: pip install 'stems[client]'"),
        ("redis", ["logs"], "stems logs needs redis: pip install 'stems[client]'"),
        ("redis", ["dead", "list"], "stems dead list needs redis: pip install 'stems[client]'"),
        ("httpx2", ["relay"], "stems relay needs httpx2, minio and redis: pip install 'stems[relay]'"),
        ("flask", ["serve", "tracks"], "stems serve needs gunicorn, flask and minio: pip install 'stems[tracks]'"),
    ],
)
def test_a_missing_extra_is_named(absent: str, arguments: list[str], sentence: str) -> None:
    Path("song.mp3").write_bytes(b"song")
    program = f"import sys; sys.modules[{absent!r}] = None; from stems.cli import main; main(prog_name='stems')"
    done = python(program, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {sentence}\n")


def test_only_click_is_imported_up_front() -> None:
    program = (
        "import sys; from stems.cli import main;"
        "print({m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    )
    done = python(program)
    third_party = eval(done.stdout) & {"torch", "numpy", "demucs", "minio", "redis", "httpx2", "flask", "cloudevents"}
    assert third_party == set()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["submit"], 2, "Missing argument 'FILE...'"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["--env-file", "nowhere", "tracks"], 2, "'nowhere' does not exist"),
        (["dead", "retry"], 2, "name dead letters, or use --all"),
        (["dead", "drop", "--all", "3f"], 2, "name dead letters, or use --all"),
        (["serve", "tracks", "--port", "0"], 2, "0 is not in the range"),
        (["tracks", "--limit", "0"], 2, "0 is not in the range"),
        (["submit", "--format", "ogg", "song.mp3"], 1, "Error: format=ogg: 'ogg' is not one of mp3, flac, wav"),
        (["separate", "--model", "../x", "song.mp3"], 1, "Error: model=../x"),
        (["separate", "nowhere.mp3"], 1, "Error: nowhere.mp3: there is no such file"),
        (["submit", "song.mp3"], 1, "Error: not set: STEMS_S3_ACCESS_KEY, STEMS_S3_SECRET_KEY"),
        (["relay"], 1, "Error: not set: STEMS_S3_ACCESS_KEY, STEMS_S3_SECRET_KEY, K_SINK"),
        (["model", "fetch", "nonsense"], 1, "Error: no published model 'nonsense'; there is htdemucs"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], code: int, words: str) -> None:
    Path("song.mp3").write_bytes(b"song")
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMS_URL", "somewhere")
    done = run("tracks")
    assert (done.exit_code, done.stderr) == (1, "Error: STEMS_URL='somewhere': not an http:// or https:// address\n")


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [
        ("STEMS_URL", "http://127.0.0.1:9", "STEMS_URL says where it is"),
        ("STEMS_REDIS_URL", "redis://127.0.0.1:9", "Redis does not answer"),
    ],
)
def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, url: str, words: str) -> None:
    monkeypatch.setenv(variable, url)
    done = run("tracks" if variable == "STEMS_URL" else "logs")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr


def test_the_environment_wins_over_the_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("some.env")
    file.write_text("# a comment\nSTEMS_URL=http://file:1\nSTEMS_MODEL='of $the ${file}'\nNOTHING\n")
    monkeypatch.setenv("STEMS_URL", "http://environment:2")
    settings = Settings.from_env(environment(file))
    assert settings.tracks_url == "http://environment:2"
    assert settings.model == "of $the ${file}"
    assert Settings.from_env(environment(None)).model == "untrained"


def test_an_env_file_that_is_no_text() -> None:
    Path("some.env").write_bytes(b"\xff\xfe=1")
    with pytest.raises(ConfigError, match=r"some\.env cannot be read"):
        environment(Path("some.env"))


def test_the_env_file_of_the_local_run_is_found(tmp_path: Path) -> None:
    Path(".stems").mkdir()
    Path(".stems/env").write_text("STEMS_LOG_LEVEL=found\n")
    Path("other").write_text("STEMS_LOG_LEVEL=other\n")
    assert "STEMS_LOG_LEVEL='found'" in run("logs").stderr
    assert "STEMS_LOG_LEVEL='other'" in run("--env-file", "other", "logs").stderr


def test_songs_of_one_name_get_folders_of_their_own() -> None:
    songs = [Path("a/Song.mp3"), Path("b/song.flac"), Path("song-2.mp3"), Path("other.v2.mp3")]
    given = [str(folder) for _, folder in targets(songs, Path("out"))]
    assert given == ["out/Song", "out/song-2", "out/song-2-2", "out/other.v2"]


# ----- how things look


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("song", 6, "song  "),
        ("a long song", 6, "a lon…"),
        ("夜に駆ける", 10, "夜に駆ける"),
        ("夜に駆ける", 7, "夜に駆…"),
        ("夜に駆ける", 8, "夜に駆… "),
        ("cafe\u0301", 5, "cafe\u0301 "),
    ],
)
def test_columns_of_any_script(text: str, columns: int, shown: str) -> None:
    assert terminal.fit(text, columns) == shown
    assert terminal.width(shown) == columns


def test_a_file_name_cannot_steer_the_terminal() -> None:
    assert terminal.plain("a\033[2Jb\nc\udcff") == "a�[2Jb c�"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (terminal.duration(192.4), "3:12"),
        (terminal.duration(3723), "1:02:03"),
        (terminal.took(0.84), "0.8 s"),
        (terminal.took(48.2), "48 s"),
        (terminal.took(192), "3:12 min"),
        (terminal.size(0), "0 B"),
        (terminal.size(999), "999 B"),
        (terminal.size(84_141_911), "84.1 MB"),
        (terminal.size(481_154), "481 kB"),
        (terminal.size(2.5e9), "2.5 GB"),
        (terminal.shares(0.41, 10), "████░░░░░░"),
        (terminal.ago(0)[-5:], "d ago"),
    ],
)
def test_numbers_for_people(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcde", "de"),
        ("abcd", "cdef", "ef"),  # the list was trimmed meanwhile
        ("abcd", "d", ""),  # a shorter list was asked for
        ("abcd", "wxyz", "wxyz"),  # more lines came than the list holds
        ("abcd", "", ""),  # Redis was emptied
        ("aaa", "aaaaa", "aa"),
        ("abab", "ababab", "ab"),
    ],
)
def test_new_lines_of_a_trimmed_list(seen: str, now: str, expected: str) -> None:
    assert "".join(fresh(list(seen), list(now))) == expected


# ----- fetching models


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Serve `served/tiny-00000000.th`; return the address of its folder."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "tiny-00000000.th").write_bytes(BYTES)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Publish the model `tiny` at an address where nobody answers; return its SHA-256."""
    digest = hashlib.sha256(BYTES).hexdigest()
    published = {"tiny": (Weights("tiny-00000000.th", "http://127.0.0.1:9", digest),)}
    monkeypatch.setattr(weights, "PUBLISHED", published)
    monkeypatch.setenv("STEMS_MODEL_DIR", "models")
    return digest


def files() -> list[str]:
    return sorted(path.name for path in Path("models").glob("*"))


def test_fetch_brings_a_checked_model(mirror: str, tiny: str) -> None:
    done = run("model", "fetch", "tiny", "--from", mirror)
    assert done.exit_code == 0, done.output
    assert "models/tiny-00000000.th  8.0 kB, checked" in done.stdout
    assert "Licence: " in done.stdout
    assert files() == ["tiny-00000000.th", "tiny.yaml"]
    assert Path("models/tiny-00000000.th").read_bytes() == BYTES
    assert Path("models/tiny.yaml").read_text() == "models: ['tiny']\n"
    # Without any network, what is there is enough.
    assert "already there" in run("model", "fetch", "tiny").stdout


def test_fetch_keeps_no_other_bytes(mirror: str, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "tiny-00000000.th").write_bytes(b"something else")
    done = run("model", "fetch", "tiny", "--from", mirror)
    assert done.exit_code == 1
    assert hashlib.sha256(b"something else").hexdigest() in done.stderr
    assert tiny in done.stderr
    assert files() == []


def test_fetch_replaces_a_damaged_file(mirror: str, tiny: str) -> None:
    Path("models").mkdir()
    Path("models/tiny-00000000.th").write_bytes(BYTES[:-1])
    assert run("model", "fetch", "tiny", "--from", mirror).exit_code == 0
    assert Path("models/tiny-00000000.th").read_bytes() == BYTES


@pytest.mark.parametrize("missing", ["", "nowhere/"])
def test_fetch_without_an_answer_names_address_and_alternative(mirror: str, tiny: str, missing: str) -> None:
    done = run("model", "fetch", "tiny", *(["--from", mirror + missing] if missing else []))
    assert done.exit_code == 1
    assert f"{mirror + missing if missing else 'http://127.0.0.1:9/'}tiny-00000000.th cannot be read" in done.stderr
    assert "copy tiny-00000000.th into models by hand" in done.stderr
    assert files() == []


def test_published_files_are_named_by_their_checksums() -> None:
    for name, parts in weights.PUBLISHED.items():
        for each in parts:
            assert len(each.sha256) == 64, name
            assert each.file == f"{each.signature}-{each.sha256[:8]}.th"


def test_a_track_cannot_choose_where_it_is_written() -> None:
    assert str(target(Path("out"), {"name": "../../etc/pass\nwd.mp3", "songhash": "5" * 64})) == "out/pass wd"
    assert str(target(Path("out"), {"name": "..", "songhash": "5" * 64})) == "out/" + "5" * 12
