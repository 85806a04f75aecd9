"""Our own kernels against torch, at sizes that fill no vector, no tile and no block."""

import ctypes
import math
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from demucs.demucs import DConv
from torch.nn import functional

from stems.separate import kernels, layers
from stems.separate.kernels.branch import Residual
from stems.separate.kernels.product import GELU, GLU, PLAIN, Product
from stems.separate.kernels.spectra import spectra
from stems.separate.kernels.transformer import attend
from stems.separate.kernels.winograd import Convolution
from tests.audio import snr_db

EXACT_DB, BFLOAT16_DB = 115, 40
TYPES = [
    pytest.param(
        dtype, id=str(dtype), marks=pytest.mark.skipif(not kernels.usable(dtype), reason="no such instructions")
    )
    for dtype in (torch.float32, torch.bfloat16)
]
FLOATS = TYPES[0]


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unaligned(x: torch.Tensor) -> torch.Tensor:
    """Return the same numbers, one number behind where a vector would begin."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


def level_db(dtype: torch.dtype) -> int:
    return EXACT_DB if dtype == torch.float32 else BFLOAT16_DB


def test_the_library_is_compiled_where_it_could_run() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("not for this machine")
    if kernels.library() is None and "CI" not in os.environ:
        pytest.skip("make setup compiles it")
    assert kernels.library() is not None


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("tokens", "depth", "columns"), [(1, 1, 1), (3, 17, 5), (17, 3, 33), (29, 1030, 48), (200, 100, 49)]
)
@pytest.mark.parametrize("activation", [PLAIN, GELU, GLU])
def test_products(dtype: torch.dtype, tokens: int, depth: int, columns: int, activation: int) -> None:
    halves = 2 if activation == GLU else 1
    x, before = unaligned(noise(1, tokens, depth)), noise(1, tokens, columns, seed=2)
    weight, bias = noise(halves * columns, depth, seed=3), noise(halves * columns, seed=4)
    made = functional.linear(x.double(), weight.double(), bias.double())
    wanted = [lambda y: y, functional.gelu, functional.glu][activation](made)
    product = Product(weight, bias, dtype, activation=activation)
    found = unaligned(before)
    product(x, found, add=True)
    assert snr_db(wanted + before, found) > level_db(dtype)
    product(x, found)
    assert snr_db(wanted, found) > level_db(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_products_of_normalised_steps(dtype: torch.dtype) -> None:
    x, weight, bias = 5 + noise(1, 31, 37), noise(19, 37, seed=2), noise(19, seed=3)
    found = torch.empty(1, 31, 19)
    Product(weight, bias, dtype, normalise=1e-5)(x, found)
    wanted = functional.linear(functional.layer_norm(x.double(), (37,)), weight.double(), bias.double())
    assert snr_db(wanted, found) > level_db(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "frames", "channels"), [(1, 1, 1), (3, 17, 6), (5, 20, 3)])
def test_convolutions(dtype: torch.dtype, rows: int, frames: int, channels: int) -> None:
    """With steps along rows and frames, from and to the same kind of numbers, and a part of the rows alone."""
    x = unaligned(noise(rows, frames, channels).to(dtype))
    weight, bias = noise(7, channels, 3, 5, seed=2), noise(7, seed=3)
    runs = [(row - 1, -2, 5) for row in range(3)]
    product = Product(weight.permute(0, 2, 3, 1).flatten(1), bias, dtype, runs=runs, row_step=2, frame_step=3)
    image = x.double().permute(2, 0, 1)[None]
    wanted = functional.conv2d(image, weight.double(), bias.double(), stride=(2, 3), padding=(1, 2))[0].permute(1, 2, 0)
    found = torch.empty(wanted.shape, dtype=dtype)
    product(x, found, step_rows=len(found))
    assert snr_db(wanted, found.float()) > level_db(dtype)
    part = found[-1:].clone()
    product(x, part, step_rows=1, first_row=len(found) - 1)
    assert torch.equal(part, found[-1:])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "frames", "channels"), [(1, 1, 1), (3, 17, 18), (4, 9, 5)])
def test_transposed_convolutions(dtype: torch.dtype, rows: int, frames: int, channels: int) -> None:
    x, weight, bias = noise(rows, frames, channels), noise(channels, 7, 8, 1, seed=2), noise(7, seed=3)
    image = x.double().permute(2, 0, 1)[None]
    made = functional.conv_transpose2d(image, weight.double(), bias.double(), stride=(4, 1))
    wanted = made[0, :, 2:-2].permute(1, 2, 0)
    spread = weight.view(channels, 7, 2, 4).permute(3, 1, 2, 0).flip(2).reshape(28, -1)
    product = Product(
        spread,
        bias.repeat(4),
        dtype,
        runs=[(-1, 0, 1), (0, 0, 1)],
        places=[(row - 2, 0, 7) for row in range(4)],
        out_row_step=4,
    )
    found = torch.full((4 * rows, frames, 7), math.nan)
    product(x, found, step_rows=rows + 1)
    assert snr_db(wanted, found) > level_db(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_steps_do_not_depend_on_those_beside_them(dtype: torch.dtype) -> None:
    x, product = noise(1, 205, 70), Product(noise(90, 70, seed=2), noise(90, seed=3), dtype)
    whole, part = torch.empty(1, 205, 90), torch.empty(1, 33, 90)
    product(x, whole)
    product(x[:, 100:133], part)
    assert torch.equal(whole[:, 100:133], part)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("tokens", "seen", "heads", "width"),
    [(1, 1, 1, 2), (3, 17, 2, 6), (17, 3, 1, 18), (200, 500, 2, 34), (15, 900, 1, 64)],
)
def test_attention(dtype: torch.dtype, tokens: int, seen: int, heads: int, width: int) -> None:
    query = 2 * noise(tokens, heads * width)
    both = (2 * noise(seen, 2 * heads * width, seed=2)).to(dtype)
    key, value = both[:, : heads * width], both[:, heads * width :]
    found = attend((query * (math.log2(math.e) / math.sqrt(width))).to(dtype), key, value, heads)
    query, key, value = (x.double().reshape(1, len(x), heads, width).transpose(1, 2) for x in (query, key, value))
    wanted = functional.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1)
    assert snr_db(wanted, found.float()) > (EXACT_DB - 5 if dtype == torch.float32 else BFLOAT16_DB - 5)


@pytest.mark.parametrize("dtype", [FLOATS])
def test_attention_to_one_of_many(dtype: torch.dtype) -> None:
    """Weights that no float holds: all but the last key are e^1000 times less than it, and it is met last."""
    key = torch.zeros(1000, 4, dtype=dtype)
    key[-1] = 1000
    value = noise(1000, 4)
    torch.testing.assert_close(attend(torch.ones(2, 4), key, value, 1), value[-1:].expand(2, 4), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "frames", "channels"), [(1, 1, 8), (3, 17, 24), (2, 700, 136)])
def test_residuals(dtype: torch.dtype, rows: int, frames: int, channels: int) -> None:
    torch.manual_seed(1)
    module: Any = DConv(channels, depth=2, init=0.3).eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter += 0.2 * torch.randn(parameter.shape)
    x = noise(rows, frames, channels) + 0.5
    wanted = module.double()(x.double().transpose(1, 2)).transpose(1, 2)
    module.float()
    found = x.to(dtype)
    Residual(module, dtype)(found)
    assert snr_db(wanted, found.float()) > (EXACT_DB if dtype == torch.float32 else BFLOAT16_DB - 5)


@pytest.mark.parametrize("dtype", [FLOATS])
@pytest.mark.parametrize(("rows", "frames", "channels"), [(1, 1, 1), (3, 17, 5), (9, 115, 48)])
def test_convolutions_of_three_by_three(dtype: torch.dtype, rows: int, frames: int, channels: int) -> None:
    x, weight, bias = (
        noise(rows, frames, channels),
        noise(2 * channels, channels, 3, 3, seed=2),
        noise(2 * channels, seed=3),
    )
    made = functional.conv2d(x.double().permute(2, 0, 1), weight.double(), bias.double(), padding=1)
    wanted = functional.glu(made, 0).permute(1, 2, 0)
    convolution, found = Convolution(weight, bias), torch.empty(rows, frames, channels, dtype=dtype)
    convolution(x, found, first_row=0, step_rows=rows)
    assert snr_db(wanted, found) > EXACT_DB - 5
    last = torch.empty(1, frames, channels)
    convolution(x, last, first_row=rows - 1, step_rows=1)
    assert snr_db(wanted[-1:], last) > EXACT_DB - 5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("frequencies", "frames", "channels"), [(1, 1, 2), (3, 17, 6), (16, 20, 16), (33, 5, 24)])
def test_spectra(dtype: torch.dtype, frequencies: int, frames: int, channels: int) -> None:
    x = noise(frequencies, frames, channels).to(dtype)
    found = spectra(x, 3, 0.5)
    wanted = layers.spectra(x, 3, 0.5)
    torch.testing.assert_close(found[..., :-1], wanted, rtol=1e-6, atol=1e-6)
    assert found[..., -1].eq(0).all()


@pytest.mark.parametrize("dtype", [FLOATS])
@pytest.mark.parametrize("count", [1, 3, 17, 100_001])
def test_moments(dtype: torch.dtype, count: int) -> None:
    x = 3 + noise(count).to(dtype)
    mean, variance = kernels.moments(x)
    assert mean == pytest.approx(x.double().mean().item(), rel=1e-7)
    assert variance == pytest.approx(x.double().var(correction=0).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_large_and_small_numbers(dtype: torch.dtype) -> None:
    """Activations end where floats do, without a number that is none."""
    x = torch.tensor([-1e30, -200.0, -1e-30, 0.0, 1e-30, 200.0, 1e30]).view(1, -1, 1)
    for activation, halves, wanted in (
        (GELU, 1, functional.gelu(x.double())),
        (GLU, 2, x.double() * x.double().clamp(-80, 80).sigmoid()),
    ):
        found = torch.empty(x.shape)
        Product(torch.ones(halves, 1), torch.zeros(halves), dtype, activation=activation)(x, found)
        assert found.isfinite().all()
        torch.testing.assert_close(found.double(), wanted, rtol=5e-3, atol=1e-20)


def test_tensors_of_another_kind_are_told() -> None:
    with pytest.raises(ValueError, match=r"strides \(1, 3\)"):
        kernels.address(torch.zeros(2, 3).T)
    with pytest.raises(ValueError, match="float64"):
        kernels.address(torch.zeros(2, dtype=torch.float64), torch.float32)
    with pytest.raises(ValueError, match="bfloat16"):
        Product(torch.ones(1, 1), torch.ones(1), torch.float32).arguments(
            torch.zeros(1, 1, 1, dtype=torch.bfloat16), torch.zeros(1, 1, 1)
        )
    product = Product(torch.ones(5, 6), torch.ones(5), torch.float32, runs=[(0, 0, 2)])
    with pytest.raises(ValueError, match="for 3 channels, not 6"):
        product.arguments(torch.zeros(1, 2, 6), torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match="has 5 channels, and 4 are not enough"):
        product.arguments(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))


EXACTLY = "exactly in any case, as this processor has no instructions for bfloat16"


def test_what_computes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    features = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"})
    monkeypatch.setattr(kernels, "library", lambda: object())
    for more, wanted in (
        (set(), f"our kernels (AVX-512) in float32; {EXACTLY}"),
        ({"avx512_bf16"}, "our kernels (AVX-512) in float32 and bfloat16"),
        ({"avx512_bf16", "amx_bf16"}, "our kernels (AVX-512) in float32, torch in bfloat16"),
    ):
        monkeypatch.setattr(kernels, "_features", lambda more=more: features | more)
        assert kernels.described() == wanted
    monkeypatch.setattr(kernels, "_features", lambda: frozenset({"avx2", "fma"}))
    assert kernels.described() == f"torch: the processor lacks AVX-512; {EXACTLY}"
    monkeypatch.setattr(kernels, "library", lambda: None)
    monkeypatch.setattr(kernels, "_compiled", lambda: None)
    assert kernels.described() == f"torch: no kernels were compiled for this machine; {EXACTLY}"
    assert not kernels.usable(torch.float32)


@pytest.mark.parametrize("dtype", [FLOATS])
def test_a_library_of_other_sources_is_not_called(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(kernels.LIBRARY.parent, tmp_path / "kernels"))
    monkeypatch.setattr(kernels, "LIBRARY", folder / kernels.LIBRARY.name)
    try:
        kernels.library.cache_clear()
        assert kernels.usable(dtype)
        with (folder / "product.h").open("a") as file:
            file.write("/* a later version */\n")
        kernels.library.cache_clear()
        assert not kernels.usable(dtype)
        assert kernels.described().startswith("torch: the kernels are of another version: run `make setup`")
    finally:
        kernels.library.cache_clear()
    assert kernels._sources_of(ctypes.CDLL(None)) == ""  # as of a library from before they were told
