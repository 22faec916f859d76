"""The Triton pre-pass of the exact Omega rule, in Triton's interpreter, against the torch form."""

from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from atlas_bench.kernels.omega import chunk, naive
from atlas_bench.kernels.omega import triton as kernels
from tests.marks import sweep

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2}
NAMES = ("own", "onto", "into", "mix", "scores", "read")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Outputs begin as NaN: one left unwritten is seen."""
    for owner, name in ((torch, "empty_like"), (torch.Tensor, "new_empty")):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, plain=plain, **k: plain(*a, **k).fill_(float("nan")))


def inputs(size, window, dtype, n=1, width=16, value=16):
    """Unit keys, some gates exactly 0 and some exactly 1."""
    torch.manual_seed(0)
    beta = (torch.rand(n, 2, size, window) * 1.4 - 0.2).clamp(0, 1) / window
    found = {
        "q": torch.randn(n, 2, size, width),
        "k": F.normalize(torch.randn(n, 2, size * window, width), dim=-1),
        "v": torch.randn(n, 2, size * window, value),
        "beta": beta.flatten(-2),
        "retention": (torch.rand(n, 2, size) * 1.4 - 0.1).clamp(0, 1),
    }
    return {name: x.to(dtype).requires_grad_() for name, x in found.items()}


def check(x, precision="tf32", **options):
    """Beside the torch form in double precision on the same numbers."""
    dtype, results = x["q"].dtype, []
    for form, given in (
        (chunk.prepare, {name: y.detach().double().requires_grad_() for name, y in x.items()}),
        (partial(kernels.prepare, precision=precision), x),
    ):
        made = form(**given, **options)
        torch.manual_seed(1)
        weights = [torch.randn(y.shape, dtype=torch.float64).to(y.dtype) for y in made]
        gradients = torch.autograd.grad(made, list(given.values()), weights)
        results.append(dict(zip([*NAMES, *(f"d_{name}" for name in x)], [*made, *gradients], strict=True)))
    for name, wanted in results[0].items():
        found = results[1][name]
        assert found.dtype == dtype and found.shape == wanted.shape, name
        error = (found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1)
        assert error < TOLERANCE[dtype], (name, error)


@sweep(
    "size, window, decay_first",
    [
        (*size, first)
        for size in ((1, 1), (1, 4), (16, 1), (63, 1), (64, 1), (20, 2), (32, 2), (16, 4))
        for first in (False, True)
    ],
    quick=[(1, 1, False), (16, 1, True), (20, 2, False)],
)
def test_equals_the_torch_form(size, window, decay_first):
    check(inputs(size, window, torch.float32), decay_first=decay_first)


# by "ieee" the inverse is made row by row, by "tf32" in blocks
@sweep(
    "width, value, precision",
    [(*s, p) for s in ((32, 20), (48, 64)) for p in ("ieee", "tf32")],
    quick=[(32, 20, "tf32")],
)
def test_several_tiles(width, value, precision):
    check(inputs(16, 2, torch.float32, n=2, width=width, value=value), precision=precision)


@sweep(
    "size, window, decay_first", [(64, 1, False), (64, 1, True), (16, 4, False), (16, 4, True)], quick=[(16, 4, True)]
)
def test_half_precision(size, window, decay_first):
    check(inputs(size, window, torch.float16), decay_first=decay_first)


@sweep("window", [1, 4], quick=[1])
def test_repeated_keys(window):
    """One key all along and full steps: powers of L would grow to 1e18."""
    x = inputs(64 // window, window, torch.float32)
    x["k"] = F.normalize(torch.ones_like(x["k"]), dim=-1).requires_grad_()
    x["beta"] = torch.full_like(x["beta"], 1 / window).requires_grad_()
    x["retention"] = torch.ones_like(x["retention"]).requires_grad_()
    check(x)


@sweep("length, window", product([1, 63, 64, 65, 1000], [1, 2, 4]), quick=[(1, 4), (65, 2)])
def test_any_length(length, window):
    """A whole sequence of chunks, the recurrence by a plain loop, against the token loop."""
    torch.manual_seed(0)
    size, width, value = min(length, 64 // window), 4, 3
    q, k = torch.randn(1, length, 1, width), F.normalize(torch.randn(1, length + window - 1, 1, width), dim=-1)
    v = torch.randn(1, length + window - 1, 1, value)
    gates = {"beta": torch.rand(1, length, 1, window) / window, "retention": 1 - 0.2 * torch.rand(1, length, 1)}
    state = torch.randn(1, 1, width, value)
    wanted, last = naive.omega(q, k, v, **gates, state=state)

    pad = -length % size
    windows = [F.pad(x[0, :, 0], (0, 0, 0, pad)).unfold(0, window, 1).flip(-1).mT for x in (k, v)]
    k, v = (x.reshape(-1, 1, size * window, x.shape[-1]) for x in windows)
    q = F.pad(q[0, :, 0], (0, 0, 0, pad)).reshape(-1, 1, size, width)
    beta = F.pad(gates["beta"][0, :, 0], (0, 0, 0, pad)).reshape(-1, 1, size * window)
    retention = F.pad(gates["retention"][0, :, 0], (0, pad), value=1.0).reshape(-1, 1, size)
    own, onto, into, mix, scores, read = kernels.prepare(q, k, v, beta=beta, retention=retention)
    outputs, state = [], state[0]
    for n in range(len(q)):
        errors = own[n] - onto[n] @ state
        outputs.append(read[n] * q[n] @ state + scores[n] @ errors)
        state = mix[n] * state + into[n].mT @ errors
    assert torch.allclose(torch.cat(outputs, 1)[0, :length], wanted[0, :, 0], atol=1e-4)
    assert torch.allclose(state, last[0], atol=1e-4)


def test_without_queries():
    x = inputs(8, 2, torch.float32)
    with_scores = kernels.prepare(**x, decay_first=True)
    without = kernels.prepare(**{**x, "q": None}, decay_first=True)
    assert without[4] is None
    kept = [0, 1, 2, 3, 5]
    gradients = []
    for made in (with_scores, without):
        loss = sum(made[i].square().sum() for i in kept)
        gradients.append(torch.autograd.grad(loss, [x[name] for name in ("k", "v", "beta", "retention")]))
    assert all(torch.equal(with_scores[i], without[i]) for i in kept)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"beta": torch.zeros(1, 2, 65)}, "64 at most"), ({"v": torch.zeros(1, 2, 4, 4).half()}, "one dtype")],
)
def test_what_does_not_fit_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        kernels.prepare(**{**inputs(4, 1, torch.float32), **change})
