"""The backward by hand equals autograd through the closed form: outputs, states and every gradient."""

import pytest
import torch

from atlas_bench.kernels.anchored import chunk, forward, mlp
from atlas_bench.kernels.anchored.maps import MAPS
from atlas_bench.kernels.anchored.rule import Gates, Rule
from atlas_bench.kernels.newton_schulz.naive import newton_schulz
from tests.kernels.test_anchored import case, gap, leaves


def results(op, rule, arguments, *, outputs=True):
    """(outputs and states, gradients of every argument) of a loss that sees all of them."""
    q, *rest = arguments
    y, state = op(rule, q if outputs else None, *rest)
    torch.manual_seed(1)
    found = [x for x in (y, *(x for _, x in sorted(state.items()))) if x is not None]
    loss = sum((x * torch.randn(x.shape, dtype=x.dtype)).sum() for x in found)  # randn_like copies strides
    inputs = leaves(*arguments)
    return [x.detach() for x in found], torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


def check(rule, arguments, *, tolerance=1e-10, **options):
    """Values and gradients, and the values of the form that keeps nothing."""
    leaves(*arguments)
    expected, found = (results(op.anchored, rule, arguments, **options) for op in (chunk, mlp))
    for wanted, got in zip(expected, found, strict=True):
        assert all(gap(b, a) < tolerance for a, b in zip(wanted, got, strict=True))
    q, *rest = arguments
    before = [x.clone() for x in rest[-1].values()]
    y, state = forward.anchored(rule, q if options.get("outputs", True) else None, *rest)
    found = [x for x in (y, *(x for _, x in sorted(state.items()))) if x is not None]
    assert all(gap(b, a) < tolerance for a, b in zip(expected[0], found, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, rest[-1].values(), strict=True))


@pytest.mark.parametrize("bias", ["l2", "dot"])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("window", [1, 2, 5])
def test_gradients(bias, bounded, momentum, window):
    rule = Rule(MAPS["mlp"], bias=bias, chunk_size=8, bounded=bounded)
    check(rule, case(rule, 19, window, momentum=momentum))


@pytest.mark.parametrize("length", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("chunk_size", [16, 64])
def test_lengths(length, chunk_size):
    rule = Rule(MAPS["mlp"], chunk_size=chunk_size)
    # sixty chunks of random input multiply a rounding error a million times
    check(rule, case(rule, length, 2), tolerance=1e-10 if length < 100 else 1e-7)


@pytest.mark.parametrize("group", [1, 4000, 2**22])
def test_groups_of_chunks(group, monkeypatch):
    monkeypatch.setattr(mlp, "GROUP", group)
    rule = Rule(MAPS["mlp"], chunk_size=4)
    check(rule, case(rule, 19, 2))


def test_no_outputs_wanted():
    rule = Rule(MAPS["mlp"], chunk_size=8)
    check(rule, case(rule, 19, 2), outputs=False)


def test_single_precision():
    rule = Rule(MAPS["mlp"], chunk_size=8)
    check(rule, case(rule, 65, 2, dtype=torch.float32), tolerance=1e-4)


def test_closed_tokens_leave_every_bit_and_pass_gradients():
    rule = Rule(MAPS["mlp"], chunk_size=8)
    q, k, v, gates, state = case(rule, 19, 2)
    shut = Gates(**{**vars(gates), "write": torch.zeros_like(gates.write)})
    _, after = mlp.anchored(rule, q, k, v, shut, state)
    assert all(torch.equal(state[name], after[name]) for name in state)
    check(rule, (q, k, v, shut, state))


def test_nothing_is_kept_without_gradients():
    rule = Rule(MAPS["mlp"], chunk_size=8)
    arguments = case(rule, 19, 2)
    leaves(*arguments)
    with torch.no_grad():
        y, state = mlp.anchored(rule, *arguments)
    assert not y.requires_grad and not any(x.requires_grad for x in state.values())


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule(MAPS["mlp"], chunk_size=8), None),
        (Rule(MAPS["gated"], chunk_size=8), "the map is not mlp"),
        (Rule(MAPS["mlp"], chunk_size=8, orthogonalise=newton_schulz), "there is Muon"),
    ],
)
def test_what_fits(rule, why):
    assert mlp.fits(rule) == why
