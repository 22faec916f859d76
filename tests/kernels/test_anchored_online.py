"""The online form with its backward by hand equals the token loop under autograd: versions, states and gradients."""

import pytest
import torch

from atlas_bench.kernels.anchored import naive, online
from atlas_bench.kernels.anchored.maps import GELU_MAPS, MAPS
from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of
from atlas_bench.kernels.newton_schulz.step import Step

E, X, P, V, HIDDEN = 5, 3, 6, 6, 8
MUON = {"none": None, "plain": Step(), "sized": Step(sized=True)}


def case(rule, window, *, momentum=True, dtype=torch.float64, seed=0):
    """k, v, gates and a state in the middle of a stream; some gates exactly 0 and exactly 1."""
    torch.manual_seed(seed)

    def gate(*shape):
        return (torch.rand(E, X, *shape, dtype=dtype) * 1.4 - 0.2).clamp(0, 1)

    window_gates = gate(window) + 1e-3
    gates = Gates(
        write=gate(),
        retention=gate(),
        lr=gate(),
        window=window_gates / window_gates.sum(-1, keepdim=True),
        momentum=gate() if momentum else None,
    )
    k = torch.randn(E, X, window, P, dtype=dtype) / P**0.5 * 1.2
    v = torch.randn(E, X, window, V, dtype=dtype)
    state = {}
    for name, shape in rule.map.shapes(P, V, HIDDEN).items():
        state[name] = torch.randn(X, *shape, dtype=dtype) * 0.5
        if momentum:
            state[surprise_of(name)] = torch.randn(X, *shape, dtype=dtype) * 0.3
    return k, v, gates, state


def step_by_step(rule, k, v, gates, state, active=None):
    """online.online by naive.anchored; a row that takes no part has its write gate shut."""
    state = {name: x[:, None] for name, x in state.items()}
    versions = [state]
    for e in range(len(k)):
        here = {name: None if x is None else x[e][:, None, None] for name, x in vars(gates).items()}
        if active is not None:
            takes_part = (torch.arange(k.shape[1]) < active[e])[:, None, None]
            here["write"] = torch.where(takes_part, here["write"], 0.0)
        pairs = [x[e][:, :, None] for x in (k, v)]
        _, state = naive.anchored(rule, pairs[0][:, -1:], *pairs, Gates(**here), state)
        versions.append(state)
    stacked = {name: torch.stack([version[name][:, 0] for version in versions]) for name in rule.map.layers}
    return stacked, {name: x[:, 0] for name, x in state.items()}


def leaves(k, v, gates, state):
    return [x.requires_grad_() for x in (k, v, *(x for x in vars(gates).values() if x is not None), *state.values())]


def gap(a, b):
    """The greatest difference, beside the greatest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1))


def check(rule, window, *, active=None, momentum=True, dtype=torch.float64, tolerance=1e-10):
    arguments = case(rule, window, momentum=momentum, dtype=dtype)
    inputs = leaves(*arguments)
    results, gradients = [], []
    for op in (step_by_step, online.online):
        versions, state = op(rule, *arguments, active)
        torch.manual_seed(1)
        wanted = [x for found in (versions, state) for _, x in sorted(found.items())]
        loss = sum((x * torch.randn(x.shape, dtype=dtype)).sum() for x in wanted)
        results.append(({name: x.detach() for name, x in versions.items()}, {n: x.detach() for n, x in state.items()}))
        gradients.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
    for truth, found in zip(*results, strict=True):
        assert truth.keys() == found.keys()
        assert all(gap(found[name], truth[name]) < tolerance for name in truth)
    gaps = [gap(b, a) for a, b in zip(*gradients, strict=True)]
    assert max(gaps) < tolerance, gaps


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("bias", ["l2", "dot"])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("muon", MUON)
def test_values_and_gradients(kind, window, bias, momentum, bounded, muon):
    rule = Rule(MAPS[kind], bias=bias, orthogonalise=MUON[muon], bounded=bounded)
    check(rule, window, momentum=momentum)


@pytest.mark.parametrize("kind", ["mlp", "gated"])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("muon", ["none", "plain"])
def test_gelu(kind, bounded, muon):
    check(Rule(GELU_MAPS[kind], orthogonalise=MUON[muon], bounded=bounded), 2)


@pytest.mark.parametrize("active", [[3, 3, 2, 1, 1], [2, 2, 2, 1, 0], [1, 0, 0, 0, 0], [0] * E])
@pytest.mark.parametrize("bytes_", [1, online.SLICE], ids=["row by row", "all rows"])
@pytest.mark.parametrize("muon", ["none", "sized"])
def test_rows_that_stop_early(active, bytes_, muon, monkeypatch):
    monkeypatch.setattr(online, "SLICE", bytes_)
    check(Rule(MAPS["mlp"], orthogonalise=MUON[muon]), 2, active=active)


@pytest.mark.parametrize("kind", MAPS)
def test_single_precision(kind):
    check(Rule(MAPS[kind]), 2, dtype=torch.float32, tolerance=2e-5)


def test_gradcheck():
    k, v, gates, state = case(Rule(MAPS["gated"]), 2)
    rule = Rule(MAPS["gated"], orthogonalise=MUON["sized"])

    def run(k, v, window, momentum, *state_):
        here = Gates(gates.write, gates.retention, gates.lr, window, momentum)
        versions, final = online.online(rule, k, v, here, dict(zip(state, state_, strict=True)), [3, 2, 2, 1, 1])
        return *versions.values(), *final.values()

    inputs = [x.requires_grad_() for x in (k, v, gates.window, gates.momentum, *state.values())]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("wanted", ["a version alone", "the last momentum alone"])
def test_outputs_that_nobody_uses(wanted):
    arguments = case(Rule(MAPS["mlp"]), 2)
    inputs, gradients = leaves(*arguments), []
    for op in (step_by_step, online.online):
        versions, state = op(Rule(MAPS["mlp"]), *arguments)
        loss = versions["W1"][2].sum() if wanted == "a version alone" else state["S2"].sum()
        gradients.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
    assert all(gap(b, a) < 1e-10 for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("muon", MUON)
def test_closed_tokens_leave_every_bit(kind, muon):
    rule = Rule(MAPS[kind], orthogonalise=MUON[muon])
    k, v, gates, state = case(rule, 2, dtype=torch.float32)
    shut = Gates(**{**vars(gates), "write": torch.zeros_like(gates.write)})
    versions, final = online.online(rule, k, v, shut, state)
    assert all(torch.equal(x[-1], state[name]) for name, x in versions.items())
    assert all(torch.equal(x, state[name]) for name, x in final.items())


@pytest.mark.parametrize("active", [None, [3, 2, 2, 1, 0]])
def test_without_gradients_the_bits_are_the_same_and_the_state_given_is_left_alone(active):
    rule = Rule(MAPS["mlp"], orthogonalise=MUON["sized"])
    k, v, gates, state = case(rule, 2)
    before = {name: x.clone() for name, x in state.items()}
    found = online.online(rule, k, v, gates, state, active)
    leaves(k, v, gates, state)
    traced = online.online(rule, k, v, gates, state, active)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(found, traced, strict=True) for name in a)
    assert all(torch.equal(x, state[name]) for name, x in before.items())
