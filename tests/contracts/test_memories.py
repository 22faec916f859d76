"""What every registered memory promises: the contracts of verify.py, and what takes a test-suite's patience."""

import pytest
import torch

from atlas_bench import registry, verify
from atlas_bench.kernels.anchored import naive

MEMORIES = [name for name in registry.MEMORIES if name != "none"]


@pytest.fixture(params=MEMORIES)
def name(request):
    return request.param


def builder(name):
    return verify.builder(registry.memory(name))


@pytest.mark.parametrize("contract", verify.CONTRACTS)
def test_the_contract_holds(name, contract):
    assert verify.CONTRACTS[contract](builder(name)) is None


def test_reading_block_by_block_equals_the_published_rule_token_by_token(name):
    """Against write() and read() alone, or kernels/anchored/naive.py: no event loop, no closed form, no skipping."""
    memory, x = builder(name)(write_bias=0.6), verify.tokens()
    window = memory.omega_window
    with torch.no_grad():
        y, final = memory(x)
        gates = {n: torch.nn.functional.hardsigmoid(linear(x)) for n, linear in memory.gate.items()}
        padded = torch.cat([x.new_zeros(x.shape[0], window - 1, x.shape[2]), x], 1)
        k, v = memory._pairs(padded)
        q = memory._address(memory.query(x))
        state, outputs = memory.init_state(x.shape[0]), []
        if memory.chunk_size > 1:
            whole = x.shape[1] // memory.chunk_size * memory.chunk_size
            y_all, _ = naive.anchored(memory.rule, q, k, v, memory.terms(gates), state)
            short = memory.terms({n: gate[:, :whole] for n, gate in gates.items()})
            _, state = naive.anchored(memory.rule, q[:, :whole], k, v, short, state)
            outputs.append(y_all)
        for t in range(x.shape[1] if memory.chunk_size == 1 else 0):
            here = slice(t, t + window)
            at = {n: gate[:, t] for n, gate in gates.items()}
            state = memory.write(state, k[:, here].transpose(1, 2), v[:, here].transpose(1, 2), at)
            outputs.append(memory.read(state, q[:, t : t + 1].transpose(1, 2)).transpose(1, 2))
        expected = memory.out(torch.cat(outputs, 1).flatten(2))
    assert (y - expected).abs().max() < 1e-8
    assert all((state[n] - final[n]).abs().max() < 1e-8 for n in state)


def test_gradients_are_right(name):
    """Against finite differences, through the event loop and (70 tokens, many open) the closed form."""
    memory = builder(name)(write_bias=0.0, width=6, head=4)
    x = verify.tokens(1, 70 if name in ("gated-deltanet", "omeganet") else 9, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: memory(z)[0], (x,), eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_finite_on_a_million_tokens(name):
    assert verify.finite_on(builder(name), 1_000_000, write_bias=-6.7) is None
