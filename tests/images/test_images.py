"""The images as a cluster runs them: as any user, with nothing to write to but /tmp, without capabilities."""

from pathlib import Path

import pytest

from tests.containers import PARTS, UID, inspect, run
from tests.manifests import VERSION
from tests.pipeline import RATE_HZ, Pipeline, samples, song
from tests.programs import CHECKOUT

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]

TOOLS = ("cc", "gcc", "c++", "clang", "ld", "as", "make", "git", "uv", "cargo", "go")
LEFT_BEHIND = ("/root/.cache", "/src", "/opt/uv", "/opt/packages/bin/pip", "/opt/packages/bin/uv")
# What only other parts need.
FOREIGN = {
    "relay": {"torch", "demucs", "numpy", "flask", "gunicorn", "imageio_ffmpeg"},
    "tracks": {"torch", "demucs", "numpy", "httpx2", "imageio_ffmpeg"},
    "separate": {"httpx2", "sphn", "triton", "matplotlib", "pytest"},
}


@pytest.mark.parametrize("part", PARTS)
def test_an_image_says_what_it_is(part: str) -> None:
    config = inspect(part)["Config"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["version"] == VERSION
    assert labels["title"] == f"stems-{part}"
    assert labels["licenses"] == "MIT"
    assert config["User"] == "10001:10001"
    assert run(part, "stems", "--version").split()[-1] == VERSION


@pytest.mark.parametrize("part", PARTS)
def test_only_tmp_can_be_written_to(part: str) -> None:
    folders = ("/tmp", "/", "/etc", "/opt/stems", "/opt/packages", "/root", "/run", "/usr", "/var/tmp", "/var/cache")
    code = f"import os; print(os.getuid(), *(each for each in {folders} if os.access(each, os.W_OK)))"
    assert run(part, "python", "-c", code).split() == [str(UID), "/tmp"]


@pytest.mark.parametrize("part", PARTS)
def test_an_image_holds_what_its_part_needs_and_no_tools(part: str) -> None:
    code = f"""
import importlib.util, os, shutil
print(*(each for each in {TOOLS} if shutil.which(each)), *(each for each in {LEFT_BEHIND} if os.path.exists(each)),
      *(each for each in {sorted(FOREIGN[part])} if importlib.util.find_spec(each)))
"""
    # As root: what others may not look into is found, too.
    assert run(part, "python", "-c", code, options=("--user=0:0", "--cap-add=DAC_OVERRIDE")).split() == []


@pytest.mark.parametrize(
    ("part", "module"),
    [("relay", "stems_relay.relay"), ("tracks", "stems.tracks.app"), ("separate", "stems.separate.app")],
)
def test_no_start_compiles_what_it_imports(part: str, module: str) -> None:
    code = f"""
import importlib.util, os, sys, {module}
files = (each.__file__ for each in [*sys.modules.values()] if str(getattr(each, "__file__", "")).endswith(".py"))
there = (file for file in files if os.path.exists(file))  # torch has modules that are in no file
print(*(file for file in there if not os.path.exists(importlib.util.cache_from_source(file))))
"""
    assert run(part, "python", "-c", code).split() == []


def test_the_set_up_runs_from_the_image_of_the_relay(pipeline: Pipeline) -> None:
    stack = pipeline.stack
    environ = {
        "STEMS_S3_ENDPOINT": stack.s3_url,
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": stack.keys["root"],
        **{
            f"STEMS_{user.upper()}_SECRET_KEY": stack.keys[user] for user in ("separate", "tracks", "relay", "uploader")
        },
    }
    options = [f"--env={name}={value}" for name, value in environ.items()]
    options += [f"--volume={CHECKOUT / 'minio-config'}:/minio-config:ro"]
    printed = run("relay", "python", "/minio-config/apply.py", options=tuple(options))
    done = [line.rsplit(": ", 1)[1] for line in printed.splitlines()]
    assert done == ["ready", *["unchanged"] * (len(done) - 1)], "as the local run has set it up"
    assert len(done) > 10


def test_a_song_goes_through_the_images(pipeline: Pipeline, tmp_path: Path) -> None:
    path = song(tmp_path / "first.wav", seed=1, duration_s=9.5)
    pipeline.mc("cp", str(path), "stems/queue/")

    track = pipeline.done("first.wav", deadline_s=180)

    (model,) = (each for each in inspect("separate")["Config"]["Env"] if each.startswith("STEMS_MODEL="))
    assert track["model"]["name"] == model.removeprefix("STEMS_MODEL=")
    for stem in ("drums", "bass", "other", "vocals"):
        audio = pipeline.download(f"/v1/tracks/{track['songhash']}/{stem}")
        assert len(samples(audio)) == round(9.5 * RATE_HZ)
