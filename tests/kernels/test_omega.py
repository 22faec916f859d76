"""The chunk form against the token loop that states the equations: outputs, state, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.kernels.omega import chunk, naive

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


def inputs(length, window, dtype, seed=0, batch=2, heads=3, width=8, value=5):
    torch.manual_seed(seed)
    unit = torch.nn.functional.normalize(torch.randn(batch, length + window - 1, heads, width, dtype=dtype), dim=-1)
    return {
        "q": torch.randn(batch, length, heads, width, dtype=dtype),
        "k": unit,
        "v": torch.randn(batch, length + window - 1, heads, value, dtype=dtype),
        "beta": torch.rand(batch, length, heads, window, dtype=dtype) / window,
        "retention": 1 - 0.2 * torch.rand(batch, length, heads, dtype=dtype),
        "state": torch.randn(batch, heads, width, value, dtype=dtype),
    }


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("decay_first", [False, True])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 63, 200])
def test_chunk_equals_token_loop(length, window, decay_first, dtype):
    x = inputs(length, window, dtype)
    for name, tensor in x.items():
        x[name] = tensor.requires_grad_()
    results = []
    for form in (naive.omega, chunk.omega):
        y, state = form(**x, decay_first=decay_first)
        weight = torch.linspace(0.5, 1.5, y.numel(), dtype=dtype).reshape(y.shape)
        gradients = torch.autograd.grad((y * weight).sum() + state.square().sum(), list(x.values()))
        results.append([y, state, *gradients])
    for a, b in zip(*results, strict=True):
        assert (a - b).square().mean().sqrt() <= TOLERANCE[dtype] * (1 + a.square().mean().sqrt())


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 3),
    st.integers(1, 40),
    st.lists(st.floats(0, 1), min_size=70, max_size=70),
)
def test_any_chunk_size_and_closed_gates(length, window, size, gates):
    x = inputs(length, window, torch.float64)
    mask = (torch.tensor(gates[:length]) > 0.5).double()[None, :, None]
    x["beta"] = x["beta"] * mask[..., None]
    x["retention"] = 1 - (1 - x["retention"]) * mask
    y, state = naive.omega(**x)
    y2, state2 = chunk.omega(**x, chunk_size=size)
    assert torch.allclose(y, y2, atol=1e-10) and torch.allclose(state, state2, atol=1e-10)
    if not mask.any():
        assert torch.equal(state2, x["state"])


def test_without_queries_only_the_state_is_made():
    x = inputs(50, 2, torch.float64)
    _, state = chunk.omega(**x)
    none, alone = chunk.omega(**{**x, "q": None})
    assert none is None and torch.equal(state, alone)
