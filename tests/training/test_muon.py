"""Muon is torch's own, all matrices of a shape at once, in the dtype that is faster here."""

import pytest
import torch

from atlas_bench.training import muon
from atlas_bench.training.muon import Muon

SHAPES = ((24, 24), (24, 24), (48, 24), (24, 48))


def after_steps(make, steps=4):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    optimizer = make(weights)
    for i in range(steps):
        torch.manual_seed(i)
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        if i == 1:
            weights[0].grad = None  # a matrix that a step did not use
        optimizer.step()
    return weights


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 5e-4), (torch.float32, 2e-3)])
def test_it_takes_torchs_steps(dtype, tolerance):
    ours = after_steps(lambda weights: Muon(weights, lr=0.05, dtype=dtype))
    theirs = after_steps(lambda weights: torch.optim.Muon(weights, lr=0.05, weight_decay=0.0))
    assert max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True)) < tolerance


def test_float32_is_the_formula():
    """Newton-Schulz of the momentum by Muon's coefficients, written out."""
    torch.manual_seed(0)
    weight, gradient = torch.nn.Parameter(torch.zeros(48, 24)), torch.randn(48, 24)
    weight.grad = gradient
    Muon([weight], lr=1.0, dtype=torch.float32).step()
    x = (0.05 * gradient + 0.95 * 0.05 * gradient).T
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    assert torch.allclose(weight.detach(), -(2**0.5) * x.T, atol=1e-4)


@pytest.mark.parametrize(("bf16", "chosen"), [(0.5, torch.bfloat16), (0.95, torch.float32), (100.0, torch.float32)])
def test_the_faster_dtype_is_measured(bf16, chosen, monkeypatch):
    monkeypatch.setattr(muon, "_seconds", lambda dtype, device: bf16 if dtype == torch.bfloat16 else 1.0)
    assert muon.fastest_dtype.__wrapped__("cpu") == chosen
