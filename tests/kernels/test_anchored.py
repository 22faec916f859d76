"""The chunkwise closed form equals the token loop: outputs, states and gradients, whatever the rule."""

from itertools import product

import pytest
import torch

from atlas_bench.kernels.anchored import chunk, naive
from atlas_bench.kernels.anchored.maps import GELU_MAPS, MAPS, Matrix, Normed, PlainGeluMLP
from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of
from atlas_bench.kernels.newton_schulz.naive import newton_schulz
from tests.marks import sweep

B, H, P, V, HIDDEN = 2, 2, 7, 4, 5


def case(rule, length, window, *, momentum=True, dtype=torch.float64, seed=0):
    """q, k, v, gates and a state in the middle of a stream; some gates exactly 0 and exactly 1."""
    torch.manual_seed(seed)

    def gate(*shape):
        return (torch.rand(B, length, H, *shape, dtype=dtype) * 1.4 - 0.2).clamp(0, 1)

    window_gates = gate(window) + 1e-3
    gates = Gates(
        write=gate(),
        retention=gate(),
        lr=gate(),
        window=window_gates / window_gates.sum(-1, keepdim=True),
        momentum=gate() if momentum else None,
    )
    q, k = (torch.randn(B, n, H, P, dtype=dtype) / P**0.5 for n in (length, length + window - 1))
    v = torch.randn(B, length + window - 1, H, V, dtype=dtype)
    state = {}
    for name, (rows, columns) in rule.map.shapes(P, V, HIDDEN).items():
        state[name] = torch.randn(B, H, rows, columns, dtype=dtype) * 0.5
        if momentum:
            state[surprise_of(name)] = torch.randn(B, H, rows, columns, dtype=dtype) * 0.3
    return q, k, v, gates, state


def leaves(q, k, v, gates, state):
    found = [q, k, v, *(x for x in vars(gates).values() if x is not None), *state.values()]
    return [x.requires_grad_() for x in found]


def gap(a, b):
    """The greatest difference, beside the greatest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1))


def check(rule, length, window, *, momentum=True, dtype=torch.float64, tolerance=1e-10):
    arguments = case(rule, length, window, momentum=momentum, dtype=dtype)
    inputs = leaves(*arguments)
    results, gradients = [], []
    for op in (naive.anchored, chunk.anchored):
        y, state = op(rule, *arguments)
        torch.manual_seed(1)
        wanted = [y, *(x for _, x in sorted(state.items()))]
        loss = sum((x * torch.randn(x.shape, dtype=dtype)).sum() for x in wanted)  # randn_like copies strides
        results.append((y.detach(), {n: x.detach() for n, x in state.items()}))
        gradients.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
    (y, state), (y2, state2) = results
    assert state.keys() == state2.keys() == arguments[-1].keys()
    assert gap(y2, y) < tolerance
    assert all(gap(state2[name], state[name]) < tolerance for name in state)
    assert all(gap(b, a) < tolerance for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", MAPS)
@sweep("window, every", product([1, 5, 16], [1, 4, 8]), quick=[(1, 1), (5, 8), (16, 4)])
def test_muon(kind, window, every):
    check(Rule(MAPS[kind], chunk_size=8, orthogonalise=newton_schulz, every=every), 19, window)


@pytest.mark.parametrize("kind", MAPS)
@sweep("window", [1, 5, 16], quick=[5])
@pytest.mark.parametrize("bias", ["l2", "dot"])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("momentum", [True, False])
def test_gradient_descent(kind, window, bias, bounded, momentum):
    check(Rule(MAPS[kind], bias=bias, chunk_size=8, bounded=bounded), 19, window, momentum=momentum)


@pytest.mark.parametrize("kind", ["mlp", "gated"])
@pytest.mark.parametrize("bounded", [True, False])
def test_gelu(kind, bounded):
    check(Rule(GELU_MAPS[kind], chunk_size=8, bounded=bounded), 19, 2)


@pytest.mark.parametrize("inner", [Matrix, PlainGeluMLP])
@pytest.mark.parametrize("momentum", [True, False])
def test_a_map_behind_a_layer_norm(inner, momentum):
    """The norm's own gradients too: its gain and bias are learnt."""
    norm = torch.nn.LayerNorm(V, dtype=torch.float64)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    rule = Rule(Normed(inner, norm), chunk_size=8, bounded=False)
    check(rule, 19, 2, momentum=momentum)
    *arguments, state = case(rule, 19, 2, momentum=momentum)
    gradients = []
    for op in (naive.anchored, chunk.anchored):
        y, _ = op(rule, *arguments, {name: x.requires_grad_() for name, x in state.items()})
        gradients.append(torch.autograd.grad(y.square().sum(), list(norm.parameters())))
    assert all(gap(b, a) < 1e-10 for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("chunk_size", [1, 3, 13, 64])
@pytest.mark.parametrize("length", [1, 2, 13, 14])
def test_any_chunk_size_and_length(chunk_size, length):
    check(Rule(MAPS["mlp"], chunk_size=chunk_size), length, 2)


@pytest.mark.parametrize("kind", MAPS)
def test_single_precision(kind):
    check(Rule(MAPS[kind], chunk_size=8), 19, 5, dtype=torch.float32, tolerance=2e-5)


def test_muon_without_momentum():
    check(Rule(MAPS["mlp"], chunk_size=4, orthogonalise=newton_schulz), 9, 2, momentum=False)


def test_no_outputs_wanted():
    rule = Rule(MAPS["mlp"], chunk_size=8)
    q, k, v, gates, state = case(rule, 19, 2)
    y, with_outputs = chunk.anchored(rule, q, k, v, gates, state)
    none, without = chunk.anchored(rule, None, k, v, gates, state)
    assert y.shape == (B, 19, H, V) and none is None
    assert all(torch.equal(with_outputs[name], without[name]) for name in state)


def test_closed_tokens_leave_every_bit():
    rule = Rule(MAPS["gated"], chunk_size=8, orthogonalise=newton_schulz)
    q, k, v, gates, state = case(rule, 19, 2)
    shut = Gates(**{**vars(gates), "write": torch.zeros_like(gates.write)})
    _, after = chunk.anchored(rule, q, k, v, shut, state)
    assert all(torch.equal(state[name], after[name]) for name in state)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"chunk_size": 6, "every": 4}, "does not divide"), ({"chunk_size": 4, "every": 4}, "nothing")],
)
def test_rules_that_mean_nothing_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Rule(MAPS["mlp"], orthogonalise=newton_schulz if said == "does not divide" else None, **options)


def test_holding_a_direction_needs_momentum():
    rule = Rule(MAPS["mlp"], chunk_size=4, orthogonalise=newton_schulz, every=4)
    for op in (naive.anchored, chunk.anchored):
        with pytest.raises(ValueError, match="needs momentum"):
            op(rule, *case(rule, 9, 1, momentum=False))
