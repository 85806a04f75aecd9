"""What a process may use of its machine, as Linux tells it, and how many segments are computed at a time for it."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.htdemucs import HTDemucs

from stems.separate import allowance, kernels
from stems.separate.hybrid import Hybrid, Types
from stems.separate.model import Model, Part

FOUR = ("drums", "bass", "other", "vocals")
Tell = Callable[..., None]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tell]:
    """Return a function that has the machine say what is given: files of the control group `pod/worker`, and memory."""
    monkeypatch.setattr(allowance, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(allowance, "_PROCESS", tmp_path / "process")
    monkeypatch.setattr(allowance, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)

    def forget() -> None:
        allowance.cores.cache_clear()
        allowance.memory_mib.cache_clear()

    def told(group: str = "/pod/worker", free_kib: int | None = None, **files: str) -> None:
        forget()
        (tmp_path / "process").write_text(f"1:cpu:/elsewhere\n0::{group}\n")
        for name, text in files.items():
            folder, _, name = name.rpartition("__")
            path = tmp_path / "cgroup" / folder.replace("__", "/") / name.replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if free_kib is not None:
            (tmp_path / "meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable: {free_kib} kB\n")

    forget()
    yield told
    forget()


def test_a_container_has_the_least_of_all_limits_around_it(tell: Tell) -> None:
    tell(
        pod__worker__cpu_max="max 100000\n", pod__cpu_max="150000 100000\n",
        pod__worker__memory_max=f"{2 << 30}\n", pod__memory_max=f"{3 << 30}\n", free_kib=8 << 20,
    )  # fmt: skip
    assert (allowance.cores(), allowance.memory_mib()) == (2, 2048)


def test_a_container_that_sees_itself_as_the_root(tell: Tell) -> None:
    tell("/", __cpu_max="400000 100000\n", __memory_max=f"{1 << 30}\n")
    assert (allowance.cores(), allowance.memory_mib()) == (4, 1024)


def test_without_limits_half_of_what_is_free(tell: Tell) -> None:
    tell(pod__memory_max="max\n", pod__cpu_max="max 100000\n", free_kib=8 << 20)
    assert (allowance.cores(), allowance.memory_mib()) == (64, 4096)


def test_a_share_of_a_core_is_one(tell: Tell) -> None:
    tell(pod__cpu_max="20000 100000\n")
    assert allowance.cores() == 1


def test_where_nothing_tells(tell: Tell) -> None:
    assert (allowance.cores(), allowance.memory_mib()) == (64, None)


def model(types: Types, networks: int = 1) -> Model:
    arguments: dict[str, Any] = {"channels": 8, "t_layers": 1, "t_heads": 2, "samplerate": 8000, "segment": Fraction(1)}
    made = [Hybrid(HTDemucs(list(FOUR), **arguments), types) for _ in range(networks)]
    return Model("test", FOUR, 8000, 2, tuple(Part(each, (1.0,) * 4, 8000) for each in made), "")


@pytest.mark.parametrize(
    ("mib", "networks", "wanted"),
    [
        (None, 1, 2), (1024, 1, 2), (1203, 1, 2), (1204, 1, 3), (100_000, 1, 8),
        (1023, 1, 1), (300, 1, 1),
        (None, 4, 2), (1557, 4, 1), (1558, 4, 2), (1738, 4, 3),
    ],
)  # fmt: skip
def test_segments_at_a_time_are_what_there_is_memory_for(
    mib: int | None, networks: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels.usable(torch.float32):
        pytest.skip("for our kernels")
    monkeypatch.setattr(allowance, "memory_mib", lambda: mib)
    assert model(Types(torch.float32, torch.float32), networks).at_once == wanted


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (Types(torch.float32, torch.float32), 8),
        (Types(torch.bfloat16, torch.float32), 8),
        (Types(torch.bfloat16, torch.bfloat16), 2),
    ],
)
def test_with_amx_what_torch_computes_alone_is_two_at_a_time(
    types: Types, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels.usable(torch.float32):
        pytest.skip("for our kernels")
    features = kernels._features() | {"amx_bf16"}
    monkeypatch.setattr(kernels, "_features", lambda: features)
    monkeypatch.setattr(allowance, "memory_mib", lambda: 100_000)
    assert model(types).at_once == wanted
