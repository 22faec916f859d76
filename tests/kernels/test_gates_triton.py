"""The Triton form of the gates' shares, in Triton's interpreter, against the torch form: results and gradients."""

from functools import partial

import pytest
import torch

from atlas_bench.kernels.gates import chunk
from atlas_bench.kernels.gates import triton as kernels
from tests.kernels.test_gates import BOUNDS, gates, run
from tests.marks import sweep


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Outputs begin as NaN: one left unwritten is seen."""
    for owner, name in ((torch, "empty_like"), (torch.Tensor, "new_empty")):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, plain=plain, **k: plain(*a, **k).fill_(float("nan")))


def check(inputs, bounded_at, tolerance, **options):
    """Beside the torch form in double precision on the same numbers."""
    exact = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    wanted = run(chunk.sums, exact, bounded_at)
    found = run(partial(kernels.sums, **options), inputs, bounded_at)
    for name, x in wanted.items():
        assert found[name].dtype == inputs["write"].dtype and found[name].shape == x.shape, name
        error = (found[name].double() - x).abs().max() / x.abs().max().clamp_min(1)
        assert error < tolerance, (name, error)


@pytest.mark.parametrize("bounded_at", BOUNDS)
@pytest.mark.parametrize("momentum", [True, False])
@sweep("size, window", [(1, 4), (16, 1), (21, 2), (63, 8), (64, 1), (64, 4)], quick=[(1, 4), (21, 2)])
def test_equals_the_torch_form(size, window, momentum, bounded_at):
    check(gates(size, window, momentum=momentum, dtype=torch.float32, rows=1), bounded_at, 1e-5)


@sweep("window", [1, 4], quick=[4])
def test_half_precision(window):
    check(gates(40, window, dtype=torch.float16), 0.9, 1e-2)


def test_half_precision_inside_the_backward():
    check(gates(40, 4, dtype=torch.float32), 0.9, 1e-2, compute=torch.float16)


@sweep("length", (1, 63, 64, 65, 1000), quick=(1, 63, 64, 65))
def test_any_length(length):
    """Chunks as a sequence is cut into them, the last one closed from where the sequence ends."""
    size = min(64, length)
    chunks = -(-length // size)
    inputs = gates(size, 2, dtype=torch.float32, chunks=chunks, rows=1)
    open_ = (torch.arange(chunks * size) < length).view(chunks, 1, size)
    inputs["write"] = (inputs["write"] * open_).detach().requires_grad_()
    check(inputs, 0.9, 1e-5)


def test_long_chunks_are_refused():
    with pytest.raises(ValueError, match="64 at most"):
        kernels.sums(**gates(65, 1, dtype=torch.float32))
