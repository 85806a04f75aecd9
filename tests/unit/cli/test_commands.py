"""The command line without servers: help, errors as sentences, settings, where files go."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stems.cli import main
from stems.cli.get import target
from stems.cli.separate import targets
from stems.config import Settings, environment
from stems.errors import ConfigError
from tests.cli import invoke


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict([((), main), *commands(main)])


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_a_line_of_summary_the_options_explained_and_an_example(path: tuple[str, ...]) -> None:
    shown = invoke(*path, "--help").output
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
            assert "..." not in invoke(*path, "--help").output.split("Commands:")[1]


@pytest.mark.parametrize(
    ("absent", "arguments", "sentence"),
    [
        (
            "torch",
            ["separate", "song.mp3"],
            "stems separate needs torch and demucs: pip install '.[separate]' in the checkout of stems",
        ),
        (
            "torch",
            ["model", "list"],
            "stems model list needs torch and demucs: pip install '.[separate]' in the checkout of stems",
        ),
        (
            "minio",
            ["submit", "song.mp3"],
            "stems submit needs minio and httpx2: pip install '.[client]' in the checkout of stems",
        ),
        ("httpx2", ["tracks"], "stems tracks needs httpx2: pip install '.[client]' in the checkout of stems"),
        ("httpx2", ["get", "song"], "stems get needs httpx2: pip install '.[client]' in the checkout of stems"),
        ("redis", ["logs"], "stems logs needs redis: pip install '.[client]' in the checkout of stems"),
        ("redis", ["dead", "list"], "stems dead list needs redis: pip install '.[client]' in the checkout of stems"),
        (
            "httpx2",
            ["relay"],
            "stems relay needs aiohttp, httpx2, minio and redis: pip install '.[relay]' in the checkout of stems",
        ),
        (
            "flask",
            ["serve", "tracks"],
            "stems serve needs gunicorn, flask and minio: pip install '.[tracks]' in the checkout of stems",
        ),
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
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMS_URL", "somewhere")
    done = invoke("tracks")
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
    done = invoke("tracks" if variable == "STEMS_URL" else "logs")
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
    assert Settings.from_env(environment(None)).model == "demo"


def test_an_env_file_that_is_no_text() -> None:
    Path("some.env").write_bytes(b"\xff\xfe=1")
    with pytest.raises(ConfigError, match=r"some\.env cannot be read"):
        environment(Path("some.env"))


def test_the_env_file_of_the_local_run_is_found(tmp_path: Path) -> None:
    Path(".stems").mkdir()
    Path(".stems/env").write_text("STEMS_LOG_LEVEL=found\n")
    Path("other").write_text("STEMS_LOG_LEVEL=other\n")
    assert "STEMS_LOG_LEVEL='found'" in invoke("logs").stderr
    assert "STEMS_LOG_LEVEL='other'" in invoke("--env-file", "other", "logs").stderr


def test_songs_of_one_name_get_folders_of_their_own() -> None:
    songs = [Path("a/Song.mp3"), Path("b/song.flac"), Path("song-2.mp3"), Path("other.v2.mp3")]
    given = [str(folder) for _, folder in targets(songs, Path("out"))]
    assert given == ["out/Song", "out/song-2", "out/song-2-2", "out/other.v2"]


def test_a_track_cannot_choose_where_it_is_written() -> None:
    assert str(target(Path("out"), {"name": "../../etc/pass\nwd.mp3", "songhash": "5" * 64})) == "out/pass wd"
    assert str(target(Path("out"), {"name": "..", "songhash": "5" * 64})) == "out/" + "5" * 12
