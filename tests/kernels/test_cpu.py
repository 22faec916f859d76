"""What suits the processor, and products in the layout that their factors have."""

import pytest
import torch
from torch import nn

from atlas_bench.kernels import cpu


@pytest.fixture
def fresh():
    cpu.best_matmul_precision.cache_clear()
    yield
    cpu.best_matmul_precision.cache_clear()


@pytest.mark.parametrize(
    ("has", "kept", "precision"),
    [(True, "", "bf16"), (True, "AVX512_CORE_AMX", "bf16"), (True, "avx2", "fp32"), (False, "", "fp32")],
)
def test_bf16_wants_an_amx_unit_that_torch_may_use(has, kept, precision, monkeypatch, fresh):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", kept)
    found, why = cpu.best_matmul_precision()
    assert found == precision and (not has or not kept or precision == "bf16" or kept in why)


@torch.no_grad()
def test_columns_are_followed_by_columns():
    layer, x, weight = nn.Linear(6, 8, bias=False), torch.randn(1, 5, 6), torch.randn(1, 2, 8, 3)
    y = cpu.columns(x, layer)
    assert y.stride() == (40, 1, 5) and torch.allclose(y, layer(x), atol=1e-6)
    heads = y.unflatten(-1, (2, 4)).transpose(1, 2)
    both = cpu.side_by_side([heads, heads * heads], [torch.tensor(2.0), torch.ones(1, 2, 5, 1)])
    assert both.stride(-2) == 1 and torch.equal(both, torch.cat([2 * heads, heads * heads], -1))
    read = cpu.through(both, weight)
    assert read.stride(-2) == 1 and torch.allclose(read, both @ weight, atol=1e-5)


def test_rows_stay_rows():
    layer, weight = nn.Linear(6, 8, bias=False), torch.randn(3, 2, 8, 3)
    x = torch.randn(3, 5, 6)
    y = cpu.columns(x, layer)
    assert y.requires_grad and torch.equal(y, layer(x))
    heads = y.unflatten(-1, (2, 4)).transpose(1, 2)
    both = cpu.side_by_side([heads, heads], [torch.ones(()), torch.ones(())])
    assert both.requires_grad and torch.equal(both, torch.cat([heads, heads], -1))
    assert torch.equal(cpu.through(both, weight), both @ weight)
    with torch.no_grad():
        assert torch.equal(cpu.side_by_side([heads, heads], [torch.ones(()), torch.ones(())]), both)
