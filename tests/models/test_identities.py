"""The family's identities: each variant against an independent statement of what it is known to be."""

import math

import pytest
import torch
import torch.nn.functional as F

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.kernels.anchored import naive
from atlas_bench.models.memory.inner_optimizer import InnerOptimizer

LENGTH = 40


def build(name, write_bias=0.0, **options):
    return verify.builder(registry.memory(name), options)(write_bias=write_bias)


def parts(memory, x):
    """q, k, v and gates of a whole stream, [B, T, H, ..]."""
    gates = {name: F.hardsigmoid(linear(x)) for name, linear in memory.gate.items()}
    k, v = memory._pairs(x)
    return memory._address(memory.query(x)), k, v, gates


def recurrence(memory, x, write):
    """Outputs of a matrix memory M [K, V] under `write(M, k, v, gates)`, one token, row and head at a time."""
    q, k, v, gates = parts(memory, x)
    y = torch.zeros_like(v)
    for b in range(x.shape[0]):
        for h in range(memory.n_heads):
            M = x.new_zeros(k.shape[-1], v.shape[-1])
            for t in range(x.shape[1]):
                M = write(M, k[b, t, h], v[b, t, h], {name: gate[b, t, h] for name, gate in gates.items()})
                y[b, t, h] = q[b, t, h] @ M
    return memory.out(y.flatten(2))


def delta(M, k, v, gates):
    w = gates["write"]
    return (torch.eye(len(k), dtype=k.dtype) - w * torch.outer(k, k)) @ M + w * torch.outer(k, v)


def gated_delta(M, k, v, gates):
    a = 1 - gates["write"] * gates["forget"]
    return delta(a * M, k, v, gates)


@pytest.mark.parametrize(("name", "write"), [("deltanet", delta), ("gated-deltanet", gated_delta)])
@torch.no_grad()
def test_the_delta_rules_are_their_recurrence(name, write):
    memory, x = build(name), verify.tokens(length=LENGTH)
    assert (memory(x)[0] - recurrence(memory, x, write)).abs().max() < 1e-10


@torch.no_grad()
def test_linear_attention_is_masked_attention_without_softmax():
    memory, x = build("linear-attention"), verify.tokens(length=LENGTH)
    q, k, v, gates = parts(memory, x)
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril() * gates["write"].permute(0, 2, 1)[:, :, None, :]
    expected = memory.out(torch.einsum("bhts,bshv->bthv", scores, v).flatten(2))
    assert (memory(x)[0] - expected).abs().max() < 1e-10


@torch.no_grad()
def test_omeganet_with_a_window_of_one_and_no_features_is_the_gated_delta_rule_written_from_the_old_memory():
    memory, x = build("omeganet", omega_window=1, degree=1), verify.tokens(length=LENGTH)

    def write(M, k, v, gates):
        w, f = gates["write"], gates["forget"]
        return (1 - w * f) * M - w * torch.outer(k, k @ M - v)

    assert (memory(x)[0] - recurrence(memory, x, write)).abs().max() < 1e-10


@pytest.mark.parametrize("chunk_size", [1, 8])
@torch.no_grad()
def test_titans_without_momentum_on_a_matrix_is_the_frozen_gradient_delta_rule(chunk_size):
    memory, x = build("titans", map="matrix", chunk_size=chunk_size, bounded=False), verify.tokens(length=LENGTH)
    fix(memory, "momentum", 0.0), fix(memory, "forget", 0.0)
    q, k, v, gates = parts(memory, x)
    M = anchor = x.new_zeros(x.shape[0], memory.n_heads, k.shape[-1], v.shape[-1])
    outputs = []
    for t in range(LENGTH):
        anchor = M if t % chunk_size == 0 else anchor
        step = (gates["write"] * gates["lr"])[:, t, :, None]
        error = torch.einsum("bhk,bhkv->bhv", k[:, t], anchor) - v[:, t]
        M = M - torch.einsum("bhk,bhv->bhkv", k[:, t], step * error)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], M))
    expected = memory.out(torch.stack(outputs, 1).flatten(2))
    assert (memory(x)[0] - expected).abs().max() < 1e-10


def fix(memory, gate, to):
    """Fixes a gate at a value in [0, 1]."""
    memory.gate[gate].weight.zero_()
    memory.gate[gate].bias.fill_(6 * to - 3)


@pytest.mark.parametrize("chunk_size", [1, 8])
@torch.no_grad()
def test_atlas_with_a_window_of_one_without_muon_and_features_is_titans(chunk_size):
    """At lr 1: Atlas weighs the step by it, Titans the gradient."""
    x = verify.tokens(length=LENGTH)
    titans = build("titans", expansion=1, chunk_size=chunk_size)
    atlas = build("atlas", omega_window=1, degree=1, muon="none", chunk_size=chunk_size)
    fix(titans, "lr", 1.0)
    atlas.load_state_dict(titans.state_dict())
    assert (atlas(x)[0] - titans(x)[0]).abs().max() < 1e-10


@pytest.mark.parametrize("dense", [0, 10**9], ids=["token by token", "event loop"])
@pytest.mark.parametrize("name", ["titans", "atlas", "atlas++", "dla"])
@torch.no_grad()
def test_chunk_size_one_is_the_online_rule(name, dense, monkeypatch):
    """Both ways a memory is computed, against the token loop that takes a new anchor at every token."""
    memory, x = build(name), verify.tokens(length=LENGTH)
    memory.dense = dense
    monkeypatch.setattr(InnerOptimizer, "_events" if dense == 0 else "write_chunk", None)  # the other way is shut
    q, _, _, gates = parts(memory, x)
    halo = x.new_zeros(x.shape[0], memory.omega_window - 1, x.shape[2])
    k, v = memory._pairs(torch.cat([halo, x], 1))
    y, _ = naive.anchored(memory.rule, q, k, v, memory.terms(gates), memory.init_state(x.shape[0]))
    assert memory.rule.chunk_size == 1
    assert (memory(x)[0] - memory.out(y.flatten(2))).abs().max() < 1e-10


@torch.no_grad()
def test_the_deep_transformer_on_a_matrix_is_softmax_attention_without_its_denominator():
    make = verify.builder(registry.memory("deep-transformer"), {"degree": 8})
    memory, x = make(head=3), verify.tokens(length=9)
    fix(memory, "write", 1.0)
    shape = (memory.n_heads, memory.head_dim)
    q, k = (F.normalize(project(x).unflatten(-1, shape), dim=-1) for project in (memory.query, memory.key))
    scores = torch.einsum("bthk,bshk->bhts", q, k).exp().tril()
    v = memory.value(x).unflatten(-1, shape)
    expected = memory.out(torch.einsum("bhts,bshv->bthv", scores, v).flatten(2))
    rest = math.e / math.factorial(9)  # of the series, where |q.k| <= 1
    assert (memory(x)[0] - expected).abs().max() < rest * 9 * v.abs().max() * memory.out.weight.abs().sum(1).max()


@torch.no_grad()
def test_swla_with_a_window_of_one_is_dla():
    x = verify.tokens(length=LENGTH)
    dla, swla = build("dla"), build("swla", omega_window=1)
    swla.load_state_dict(dla.state_dict())
    assert torch.equal(dla(x)[0], swla(x)[0])
