"""The kernels of the deep memory, in Triton's interpreter, equal its closed form in torch; and they compile."""

from itertools import product

import pytest
import torch

from atlas_bench.kernels.anchored import chunk
from atlas_bench.kernels.anchored.maps import MAPS
from atlas_bench.kernels.anchored.rule import Gates, Rule
from atlas_bench.kernels.newton_schulz.naive import newton_schulz
from tests.kernels import test_anchored
from tests.kernels.test_anchored import gap, leaves
from tests.kernels.test_anchored_mlp import results
from tests.marks import sweep

triton = pytest.importorskip("atlas_bench.kernels.anchored.triton")


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """Memory as it is allocated holds NaN, so what is never written is seen."""
    for name in ("empty", "empty_like"):
        allocate = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, _allocate=allocate, **k: _poisoned(_allocate(*a, **k)))


def _poisoned(x):
    return x.fill_(float("nan")) if x.is_floating_point() else x


def case(rule, length, window, monkeypatch, *, rows=(1, 1), features=7, width=4, hidden=5, momentum=True):
    for name, size in zip("BHPV", (*rows, features, width), strict=True):
        monkeypatch.setattr(test_anchored, name, size)
    monkeypatch.setattr(test_anchored, "HIDDEN", hidden)
    return test_anchored.case(rule, length, window, momentum=momentum, dtype=torch.float32)


def check(rule, arguments, dtype=torch.float32, *, tolerance=(2e-5, 5e-5), **options):
    """Against the closed form in fp32; `dtype` is that of q, k and v, which the closed form gets rounded to it."""
    q, k, v, gates, state = arguments
    arguments = *(x.detach().to(dtype).float() for x in (q, k, v)), gates, state
    leaves(*arguments)

    def kernel(rule, q, k, v, gates, state):
        y, state = triton.anchored(rule, None if q is None else q.to(dtype), k.to(dtype), v.to(dtype), gates, state)
        return (None if y is None else y.float()), state

    expected = results(chunk.anchored, rule, arguments, **options)
    found = results(kernel, rule, arguments, **options)
    for wanted, got, most in zip(expected, found, tolerance, strict=True):
        assert all(gap(b, a) <= most for a, b in zip(wanted, got, strict=True))


@sweep(
    "bias, bounded, momentum, window",
    product(["l2", "dot"], [True, False], [True, False], [1, 2]),
    quick=[("l2", True, True, 2), ("dot", False, False, 2)],
)
def test_rules(bias, bounded, momentum, window, monkeypatch):
    rule = Rule(MAPS["mlp"], bias=bias, chunk_size=16, bounded=bounded)
    check(rule, case(rule, 35, window, monkeypatch, momentum=momentum))


@sweep(
    "length, chunk_size, window",
    [(length, *size) for length in (1, 63, 64, 65) for size in ((16, 2), (64, 1))],
    quick=[(1, 16, 2), (65, 64, 1)],
)
def test_lengths(length, chunk_size, window, monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=chunk_size)
    check(rule, case(rule, length, window, monkeypatch))


@pytest.mark.slow
def test_a_thousand_tokens(monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=64)
    check(rule, case(rule, 1000, 1, monkeypatch), tolerance=(1e-4, 1e-3))


@pytest.mark.slow
def test_rows_and_heads(monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=16)
    check(rule, case(rule, 33, 2, monkeypatch, rows=(2, 3)))


@sweep("hidden", [32, 40, 64], quick=[40])
def test_several_tiles(hidden, monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=16)
    check(rule, case(rule, 32, 2, monkeypatch, features=32, width=32, hidden=hidden))


@sweep("window, momentum", product([1, 2], [True, False]), quick=[(2, True)])
def test_half_precision(window, momentum, monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=16)
    arguments = case(rule, 35, window, monkeypatch, momentum=momentum)
    check(rule, arguments, torch.float16, tolerance=(5e-3, 2e-2))


def test_no_outputs_wanted(monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=16)
    check(rule, case(rule, 35, 2, monkeypatch), outputs=False)


def test_closed_tokens_leave_every_bit(monkeypatch):
    rule = Rule(MAPS["mlp"], chunk_size=16)
    q, k, v, gates, state = case(rule, 35, 2, monkeypatch)
    shut = Gates(**{**vars(gates), "write": torch.zeros_like(gates.write)})
    _, after = triton.anchored(rule, q, k, v, shut, state)
    assert all(torch.equal(state[name], after[name]) for name in state)
    check(rule, (q, k, v, shut, state))


@pytest.mark.parametrize(
    ("rule", "sizes", "said"),
    [
        (Rule(MAPS["mlp"], chunk_size=64), (64, 64, 256), None),
        (Rule(MAPS["mlp"], chunk_size=64), (64, 64, 256, 2), "more than 64"),
        (Rule(MAPS["mlp"], chunk_size=16), (128, 128, 512), "more than 64"),
        (Rule(MAPS["mlp"], chunk_size=16), (16, 32, 32), "shorter"),
        (Rule(MAPS["gated"], chunk_size=16), (64, 64, 256), "not mlp"),
        (Rule(MAPS["mlp"], chunk_size=16, orthogonalise=newton_schulz), (64, 64, 256), "Muon"),
    ],
)
def test_what_fits(rule, sizes, said):
    why = triton.fits(rule, *sizes)
    assert why is None if said is None else said in why


def test_every_configuration_is_listed():
    """As aot.py compiles them: each once, with every argument either typed or constant."""
    variants = triton.variants()
    assert len({x.name for x in variants}) == len(variants)
    assert all(set(x.signature) | set(x.constants) == set(x.kernel.arg_names) for x in variants)
    assert {x.kernel for x in variants} == set(triton.CONFIGS)
