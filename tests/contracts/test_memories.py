"""What every registered memory promises: exact streaming, causality, independence, constant state, finiteness."""

import pytest
import torch

from atlas_bench import registry

MEMORIES = [name for name in registry.MEMORIES if name != "none"]
WIDTH, HEADS, HEAD = 32, 2, 16


def make(name, *, gate_bias=-1.5, dtype=torch.float64, seed=0, width=WIDTH, head=HEAD):
    """A memory whose gates are open on about a tenth of random tokens and whose output is not zero."""
    torch.manual_seed(seed)
    memory = registry.memory(name)(width, HEADS, head).to(dtype)
    with torch.no_grad():
        memory.out.weight.normal_(std=0.2)
        for parameter in (getattr(memory, "w1", None),):
            if parameter is not None:
                parameter.normal_(std=0.2)
        for linear in memory.gate.values():
            linear.weight.normal_(std=0.3)
        memory.gate["write"].bias.fill_(gate_bias * 2)
    return memory


def stream(memory, x, splits, **options):
    state, outputs, at = None, [], 0
    for n in splits:
        y, state = memory(x[:, at : at + n], state, **options)
        outputs.append(y)
        at += n
    assert at == x.shape[1]
    return torch.cat(outputs, 1), state


@pytest.fixture(params=MEMORIES)
def name(request):
    return request.param


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(3, 300, WIDTH, dtype=torch.float64)


def same(a, b, tolerance=1e-9):
    return all((a[k] - b[k]).abs().max() <= tolerance for k in a) and a.keys() == b.keys()


@pytest.mark.parametrize("splits", [[1] * 300, [127, 128, 45], [129, 171], [7, 13, 280], [2, 298]])
def test_any_split_gives_the_same(name, x, splits):
    memory = make(name)
    with torch.no_grad():
        y, state = stream(memory, x, [300])
        y2, state2 = stream(memory, x, splits)
    assert 0 < memory.write_rate < 1
    assert (y - y2).abs().max() < 1e-9 and same(state, state2)


def test_reading_block_by_block_equals_the_published_rule_token_by_token(name, x):
    """Against write() and read() alone: no event loop, no closed form, no skipping."""
    memory = make(name, gate_bias=0.3)
    window = memory.omega_window
    with torch.no_grad():
        y, final = memory(x)
        gates = {n: torch.nn.functional.hardsigmoid(linear(x)) for n, linear in memory.gate.items()}
        padded = torch.cat([x.new_zeros(3, window - 1, WIDTH), x], 1)
        k, v = memory._pairs(padded)
        q = memory._address(memory.query(x))
        state, outputs = memory.init_state(3), []
        for t in range(x.shape[1]):
            here = slice(t, t + window)
            at = {n: gate[:, t] for n, gate in gates.items()}
            state = memory.write(state, k[:, here].transpose(1, 2), v[:, here].transpose(1, 2), at)
            outputs.append(memory.read(state, q[:, t : t + 1].transpose(1, 2)).transpose(1, 2))
        expected = memory.out(torch.cat(outputs, 1).flatten(2))
    final.pop("halo", None)
    assert (y - expected).abs().max() < 1e-8 and same(state, final, 1e-8)


def test_causal(name, x):
    memory = make(name)
    changed = x.clone()
    changed[:, 200:] = torch.randn_like(changed[:, 200:])
    with torch.no_grad():
        assert torch.equal(memory(x[:, :256])[0][:, :200], memory(changed[:, :256])[0][:, :200])


def test_rows_do_not_touch_each_other(name, x):
    memory = make(name)
    changed = x.clone()
    changed[0] = torch.randn_like(changed[0])
    with torch.no_grad():
        together, alone = memory(x)[0], memory(changed)[0]
    assert (together[1:] - alone[1:]).abs().max() < 1e-9


def test_closed_gates_change_nothing_bit_for_bit(name, x):
    memory = make(name)
    with torch.no_grad():
        _, before = memory(x)
        memory.gate["write"].weight.zero_()
        memory.gate["write"].bias.fill_(-4.0)
        _, after = memory(torch.randn_like(x), before)
    assert all(torch.equal(before[k], after[k]) for k in before if k != "halo")


def test_state_does_not_grow_and_feeding_without_output_gives_the_same_state(name, x):
    memory = make(name)
    with torch.no_grad():
        _, short = memory(x[:, :50])
        _, long = memory(x)
        _, silent = memory(x, output=False)
    assert {k: v.shape for k, v in short.items()} == {k: v.shape for k, v in long.items()}
    assert same(long, silent)


def test_training_and_evaluation_agree_and_every_weight_learns(name, x):
    memory = make(name)
    y, _ = memory(x)
    with torch.inference_mode():
        quiet, _ = memory.eval()(x)
    assert (y.detach() - quiet).abs().max() < 1e-9
    (y * torch.randn_like(y)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in memory.parameters())


def test_gradients_are_right(name):
    """Against finite differences, through the event loop and (70 tokens, many open) the closed form."""
    torch.manual_seed(2)
    memory = make(name, gate_bias=0.0, width=6, head=4)
    x = torch.randn(1, 70 if name in ("gated-deltanet", "omeganet") else 9, 6, dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: memory(z)[0], (x,), eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize(("tokens", "bias"), [(2_000, 5.0), (1_000_000, -6.7)], ids=["all open", "1e6 tokens"])
def test_finite_on_a_long_stream(name, tokens, bias):
    """Random tokens in float32: every one written at full strength, or a million of which few are."""
    memory = make(name, dtype=torch.float32, width=16, head=8)
    with torch.no_grad():
        for gate, linear in memory.gate.items():
            linear.weight.normal_(std=0.3 if gate == "write" else 1.0)
        memory.gate["write"].bias.fill_(bias)
        state, written = None, 0.0
        for _ in range(10):
            y, state = memory(torch.randn(1, tokens // 10, 16), state)
            written += float(memory.write_rate) * tokens / 10
    assert written > 10
    assert torch.isfinite(y).all() and all(torch.isfinite(s).all() for s in state.values())
