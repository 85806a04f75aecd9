"""Loading models from a folder: what is found there, what is refused, and that nothing is ever downloaded."""

import hashlib
import json
import shutil
import socket
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file

from stems.errors import BadOptions, ModelUnavailable
from stems.separate import kernels
from stems.separate import model as models
from stems.separate.model import available, load
from stems.separate.publish import info

FOUR = ["drums", "bass", "other", "vocals"]
ARGUMENTS: dict[str, Any] = {"channels": 8, "t_layers": 1, "t_heads": 2, "samplerate": 8000, "dconv_mode": 0}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def network(seed: int = 0, segment: Fraction = Fraction(3, 2)) -> HTDemucs:
    torch.manual_seed(seed)
    made: HTDemucs = HTDemucs(FOUR, segment=segment, **ARGUMENTS)
    return made


def save_safetensors(path: Path, each: HTDemucs, **metadata: str) -> None:
    """Write the layout of demucs' `tools/export_hf.py`."""
    segment = {"_type": "fraction", "numerator": each.segment.numerator, "denominator": each.segment.denominator}
    described = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([FOUR]),
        "kwargs": json.dumps({**ARGUMENTS, "segment": segment}),
    }
    save_file({key: value.contiguous() for key, value in each.state_dict().items()}, path, described | metadata)


def save_pickle(folder: Path, signature: str, each: HTDemucs) -> Path:
    """Write `<signature>-<checksum>.th` as demucs publishes them."""
    path = folder / "new.th"
    kwargs = {**ARGUMENTS, "segment": each.segment}
    torch.save({"klass": HTDemucs, "args": (FOUR,), "kwargs": kwargs, "state": each.state_dict()}, path)
    return path.rename(folder / f"{signature}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.th")


def same(loaded: Any, written: HTDemucs) -> bool:
    """Tell whether both make the same of some noise."""
    mix = 0.1 * torch.randn(1, 2, written.valid_length(1), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.allclose(loaded(mix), written.eval()(mix), rtol=1e-4, atol=1e-5)


def test_untrained_is_the_same_model_every_time(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, other = load("untrained", tmp_path), load("untrained", tmp_path / "missing")
    assert "random weights" in one.note
    assert one.sources == ("drums", "bass", "other", "vocals")
    assert (one.sample_rate_hz, one.channels) == (44100, 2)
    assert one.digest == other.digest
    assert same(one.parts[0].network, other.parts[0].network)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_bundled_model_separates_four_stems_and_says_what_it_is(tmp_path: Path) -> None:
    model = load("demo", tmp_path)
    assert model.sources == ("drums", "bass", "other", "vocals")
    assert (model.sample_rate_hz, model.channels) == (44100, 2)
    assert "synthetic music" in model.note
    assert model.digest == models._DEMO_SHA256
    assert models._DEMO_FILE.stat().st_size < 8e6
    card = models._DEMO_FILE.with_suffix(".md").read_text()
    assert model.digest in card


def test_a_damaged_bundled_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bytearray(models._DEMO_FILE.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "demo.safetensors").write_bytes(damaged)
    monkeypatch.setattr(models, "_DEMO_FILE", tmp_path / "demo.safetensors")
    with pytest.raises(ModelUnavailable, match=f"not {models._DEMO_SHA256}"):
        load("demo", tmp_path)
    (tmp_path / "demo.safetensors").write_bytes(damaged[:1000])
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load("demo", tmp_path)


def test_a_safetensors_model_is_loaded_ready_for_inference(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "mine.safetensors", network())
    model = load("mine", tmp_path)
    assert (model.name, model.note, model.segment_length) == ("mine", "", 12000)
    assert model.digest == hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    assert same(model.parts[0].network, network())


@pytest.mark.parametrize(("other", "precision"), [({}, "fast"), ({"rewrite": False}, "exact")])
def test_a_bag_is_less_exact_as_a_whole_or_not_at_all(
    tmp_path: Path, other: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_safetensors(tmp_path / "aaaa1111.safetensors", network(1))
    segment = {"_type": "fraction", "numerator": 3, "denominator": 2}
    kwargs = json.dumps({**ARGUMENTS, **other, "segment": segment})
    made = HTDemucs(FOUR, segment=Fraction(3, 2), **ARGUMENTS, **other)
    save_safetensors(tmp_path / "bbbb2222.safetensors", made, kwargs=kwargs)
    (tmp_path / "bag.yaml").write_text("models: ['aaaa1111', 'bbbb2222']")
    monkeypatch.setattr(kernels, "has_bfloat16", lambda: True)
    model = load("bag", tmp_path, "fast")
    assert (model.precision, model.shortfall) == (precision, "")
    assert same(model.parts[0].network, network(1)) == (precision == "exact")


@pytest.mark.parametrize("wanted", ["close", "fast"])
def test_without_instructions_for_it_nothing_is_less_exact_and_the_record_says_so(
    wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_safetensors(tmp_path / "mine.safetensors", network())
    monkeypatch.setattr(kernels, "_features", lambda: frozenset({"avx2", "fma", "avx512f"}))
    model = load("mine", tmp_path, wanted)
    assert info(model).precision == "exact"
    assert model.shortfall == (
        f"STEMS_PRECISION={wanted}, but computing exactly: this processor has no instructions for bfloat16"
    )
    assert same(model.parts[0].network, network())
    assert load("mine", tmp_path).shortfall == ""
    monkeypatch.setattr(kernels, "_features", lambda: frozenset({"asimd", "bf16"}))  # of an ARM
    assert (load("mine", tmp_path, wanted).precision, load("mine", tmp_path, wanted).shortfall) == (wanted, "")


def test_a_bag_of_both_kinds_of_files_is_loaded(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "aaaa1111.safetensors", network(1))
    save_pickle(tmp_path, "bbbb2222", network(2))
    weights = [[1.0, 1, 0, 0], [0.0, 0, 1, 1]]
    (tmp_path / "bag.yaml").write_text(f"models: ['aaaa1111', 'bbbb2222']\nweights: {weights}\nsegment: 1")
    model = load("bag", tmp_path)
    assert [part.weights for part in model.parts] == [(1, 1, 0, 0), (0, 0, 1, 1)]
    assert model.segment_length == 8000
    assert same(model.parts[1].network, network(2, Fraction(1)))
    first = model.digest
    (tmp_path / "bag.yaml").write_text("models: ['aaaa1111', 'bbbb2222']")
    assert load("bag", tmp_path).digest != first


def test_a_damaged_pickle_fails_its_checksum(tmp_path: Path) -> None:
    path = save_pickle(tmp_path, "bbbb2222", network())
    path.write_bytes(path.read_bytes() + b"x")
    (tmp_path / "bag.yaml").write_text("models: ['bbbb2222']")
    with pytest.raises(ModelUnavailable, match="checksum"):
        load("bag", tmp_path)


def test_parts_of_unequal_segments_are_refused(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "a.safetensors", network())
    save_safetensors(tmp_path / "b.safetensors", network(segment=Fraction(2)))
    (tmp_path / "bag.yaml").write_text("models: [a, b]")
    with pytest.raises(ModelUnavailable, match="one segment length"):
        load("bag", tmp_path)


def test_a_source_that_no_part_makes_is_refused(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "a.safetensors", network())
    (tmp_path / "bag.yaml").write_text("models: [a]\nweights: [[1., 1., 1., 0.]]")
    with pytest.raises(ModelUnavailable, match="vocals"):
        load("bag", tmp_path)


@pytest.mark.parametrize("name", ["htdemucs", "mdx_extra", "demucs_unittest"])
def test_a_missing_model_is_told_with_what_there_is(name: str, tmp_path: Path) -> None:
    save_safetensors(tmp_path / "mine.safetensors", network())
    (tmp_path / "karaoke.yaml").write_text("models: [mine]")
    (tmp_path / "README.md").write_text("mine")
    assert available(tmp_path) == ["karaoke", "mine"]
    with pytest.raises(ModelUnavailable) as caught:
        load(name, tmp_path)
    for word in (name, str(tmp_path), "karaoke, mine"):
        assert word in str(caught.value)


def test_a_missing_folder_is_no_end_of_the_process(tmp_path: Path) -> None:
    assert available(tmp_path / "missing") == []
    with pytest.raises(ModelUnavailable, match="found there: none"):
        load("htdemucs", tmp_path / "missing")


@pytest.mark.parametrize("name", ["", "../mine", "a/b", "hf://x", "mine.yaml", "mine\n", "/etc/passwd", "é", "a b"])
def test_a_name_cannot_walk_paths(name: str, tmp_path: Path) -> None:
    save_safetensors(tmp_path / "mine.safetensors", network())
    with pytest.raises(BadOptions):
        load(name, tmp_path)


def test_a_bag_cannot_walk_paths(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "mine.safetensors", network())
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "bag.yaml").write_text("models: ['../mine']")
    with pytest.raises(ModelUnavailable, match="signature"):
        load("bag", folder)


@pytest.mark.parametrize("klass", ["os.system", "demucs.htdemucs.rearrange", "torch.nn.modules.linear.Linear"])
def test_a_file_cannot_name_any_class(klass: str, tmp_path: Path) -> None:
    save_safetensors(tmp_path / "evil.safetensors", network(), klass=klass)
    with pytest.raises(ModelUnavailable, match="holds the class"):
        load("evil", tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.safetensors", b"not safetensors"),
        ("bad.safetensors", b""),
        ("bad.yaml", b"models: [missing]"),
        ("bad.yaml", b"models: {"),
        ("bad.yaml", b"just text"),
        ("bad.yaml", b"models: []"),
        ("bad.yaml", b""),
    ],
)
def test_a_damaged_file_is_told_and_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelUnavailable, match="model bad"):
        load("bad", tmp_path)


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    save_safetensors(path, network())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelUnavailable, match="model bad"):
        load("bad", tmp_path)
    shutil.copy(path, tmp_path / "other.safetensors")
    assert available(tmp_path) == ["bad", "other"]
