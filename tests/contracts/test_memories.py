"""What every registered memory promises: the contracts of verify.py, and what takes a test-suite's patience."""

import pytest
import torch

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.models.memory.matrix import MatrixMemory

MEMORIES = [name for name in registry.MEMORIES if name != "none"]
OPTIONS = [  # that change what a step or a state is
    "atlas:features=sketch,most_momentum=1,window_counts=written,omega_window=3",
    "atlas:most_momentum=0,forgetting=false",
    "omeganet:features=monomials,window_counts=written",
    "titans:most_momentum=1",
    "deltanet:negative_eigenvalues=true",
    "gated-deltanet:negative_eigenvalues=true",
    "deltaproduct:steps=3,negative_eigenvalues=false,forgetting=false",
    "mesanet:iterations=16",
    "kda:short_conv=4,output_norm=true,output_gate=sigmoid",
    "omeganet:short_conv=3,omega_window=3,output_gate=silu",
    "deltaproduct:short_conv=2",
    "comba:short_conv=2",
    "titans:output_norm=true,chunk_size=8",
    "moneta:p=2,q=2",
]
QUICK_AS_PRINTED = ("omeganet", "titans")  # a matrix and an MLP; the others go the same ways
PRINTED = [  # every token is written: none is closed, and none is skipped
    pytest.param(f"{name}:printed=true", marks=[] if name in QUICK_AS_PRINTED else pytest.mark.slow)
    for name in MEMORIES
    if "printed" in registry.memory_options(name)
]
assert sum(not each.marks for each in PRINTED) == len(QUICK_AS_PRINTED)
HEAVY = ("any split", "causal", "closed form", "finite")  # contracts that read hundreds of times, or long
# what they are quick for: one of each way of reading (no state, closed form, by events, anchored chunks, Omega, MLP)
QUICK_FOR_HEAVY = ("linear-attention", "gated-deltanet", "mamba2", "omeganet", "titans", "dla")


OPTIONS = [pytest.param(each, marks=pytest.mark.slow) for each in OPTIONS]


@pytest.fixture(params=[*MEMORIES, *OPTIONS])
def name(request):
    return request.param


@pytest.fixture(params=[*MEMORIES, *OPTIONS, *PRINTED])
def any_name(request):
    return request.param


def builder(name):
    name, options = registry.typed_memory(name, feed=False)
    return verify.builder(registry.memory(name), options)


def contracts():
    """(name, contract) of all, the heavy ones slow but for a few memories."""
    for given in (*MEMORIES, *OPTIONS, *PRINTED):
        name, marks = (given.values[0], given.marks) if not isinstance(given, str) else (given, [])
        for contract in verify.CONTRACTS:
            heavy = contract in HEAVY and name not in QUICK_FOR_HEAVY
            yield pytest.param(name, contract, marks=pytest.mark.slow if heavy or marks else [])


@pytest.mark.parametrize(("name", "contract"), [*contracts()])
def test_the_contract_holds(name, contract):
    said = verify.CONTRACTS[contract](builder(name))
    assert not verify.is_broken(said), said


@pytest.mark.parametrize("name", PRINTED)
@torch.no_grad()
def test_reading_a_rule_as_printed_equals_the_rule_token_by_token(name):
    memory, x = builder(name)(), verify.tokens()
    y, final = memory(x)
    expected, state = verify.token_by_token(memory, x)
    assert (y - expected).abs().max() < 1e-8
    assert all((state[n] - final[n]).abs().max() < 1e-8 for n in state)


@pytest.mark.parametrize("density", ["dense", "sparse"])
def test_reading_block_by_block_equals_the_rule_token_by_token(name, density):
    """Against write() and read() alone, or kernels/anchored/naive.py: no event loop, no closed form, no skipping."""
    # atlas++ written densely multiplies a rounding error beyond any tolerance within 300 tokens: docs/family.md
    memory, x = builder(name)(write_bias=-3.0 if name == "atlas++" else 0.6), verify.tokens()
    if density == "sparse":
        memory, x = builder(name)(write_bias=verify.SPARSE), verify.sparse_tokens()
    with torch.no_grad():
        y, final = memory(x)
        expected, state = verify.token_by_token(memory, x)
    assert (y - expected).abs().max() < 1e-8
    assert all((state[n] - final[n]).abs().max() < 1e-8 for n in state)


def test_a_sparse_stream_has_closed_blocks_and_blocks_of_few_open_tokens(name):
    counts = verify.open_tokens(builder(name)(write_bias=verify.SPARSE), verify.sparse_tokens())
    assert counts[1:3] == [0, 0] and all(0 < counts[i] < 16 for i in (0, 3, 4))


def test_gradients_are_right(any_name):
    """Against finite differences, through the event loop and (70 tokens, many open) the closed form."""
    memory = builder(any_name)(write_bias=0.0, width=6, head=4)
    dense = isinstance(memory, MatrixMemory) or any_name.startswith(("gated-deltanet", "omeganet"))
    x = verify.tokens(1, 70 if dense else 9, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: memory(z)[0], (x,), eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True)


@pytest.mark.slow
def test_finite_on_a_million_tokens(name):
    assert verify.finite_on(builder(name), 1_000_000, write_bias=-6.7) is None
