"""The shares that the gates give against the recursion on coefficient vectors; the products of gates themselves."""

import pytest
import torch

from atlas_bench.kernels.decay import decay, flush
from atlas_bench.kernels.gates import chunk, naive

BOUNDS = [None, 0.9, 1.7]  # gates of exactly 0 and 1 reach 1 and 2, where the scaling has a kink


def gates(size, window, *, momentum=True, dtype=torch.float64, chunks=2, rows=3):
    """Gates in [0, 1], some exactly 0 and some exactly 1; those of a window add up to 1."""
    torch.manual_seed(0)

    def gate(*shape):
        return (torch.rand(chunks, rows, size, *shape, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)

    shares = gate(window) + 1e-3
    shares = shares / shares.sum(-1, keepdim=True)
    found = {"write": gate(), "retention": gate(), "lr": gate(), "window": shares}
    if momentum:
        found["momentum"] = gate()
    return {name: x.to(dtype).requires_grad_() for name, x in found.items()}


def run(sums, inputs, bounded_at):
    """Results, and the gradients of a random weighting of them."""
    results = sums(**inputs, bounded_at=bounded_at)
    torch.manual_seed(1)
    loss = sum((x * torch.randn(x.shape, dtype=torch.float64).to(x.dtype)).sum() for x in results)
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return dict(zip([*("read", "inside", "mix", "to"), *inputs], [*results, *gradients], strict=True))


@pytest.mark.parametrize("bounded_at", BOUNDS)
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_chunk_equals_the_recursion(size, window, momentum, bounded_at):
    inputs = gates(size, window, momentum=momentum)
    found, wanted = (run(form.sums, inputs, bounded_at) for form in (chunk, naive))
    for name, x in wanted.items():
        assert found[name].shape == x.shape, name
        assert torch.allclose(found[name], x, atol=1e-10), name


def test_closed_chunk_changes_nothing():
    inputs = gates(9, 2)
    inputs["write"] = torch.zeros_like(inputs["write"])
    read, inside, mix, write = chunk.sums(**inputs, bounded_at=1.0)
    assert torch.equal(mix, torch.eye(2, dtype=mix.dtype).expand_as(mix))
    assert torch.equal(read, torch.tensor([1.0, 0.0], dtype=read.dtype).expand_as(read))
    assert not inside.any() and not write.any()


@pytest.mark.parametrize("size", [1, 2, 3, 8, 17])
def test_products_and_their_gradient(size):
    torch.manual_seed(0)
    x = torch.rand(3, size, dtype=torch.float64)
    x[torch.rand(x.shape) < 0.3] = 0
    x.requires_grad_()
    rows = [[x[:, s + 1 : t + 1].prod(-1) if s <= t else 0 * x[:, 0] for s in range(size)] for t in range(size)]
    wanted = torch.stack([torch.stack(row, -1) for row in rows], -2)
    weight = torch.randn(wanted.shape, dtype=x.dtype)
    gradients = [torch.autograd.grad((D * weight).sum(), x)[0] for D in (decay(x), wanted)]
    assert torch.equal(decay(x), decay(x).tril()) and torch.allclose(decay(x), wanted, atol=1e-12)
    assert torch.allclose(*gradients, atol=1e-12)
    inside = (torch.rand(2, size, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(decay, inside) and torch.autograd.gradgradcheck(decay, inside)


def test_no_denormal_numbers():
    D = decay(torch.full((1, 64), 0.2))
    assert (D[0, -1, 0] == 0) and D[D > 0].min() >= torch.finfo(D.dtype).tiny ** 0.5
    assert torch.equal(flush(torch.tensor([0.0, 1e-30, 0.5])), torch.tensor([0.0, 0.0, 0.5]))
