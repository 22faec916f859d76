"""What the rows share beyond the contracts: refusals, the beginning of a stream, momentum, what a state keeps alive."""

from itertools import product

import pytest
import torch

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.errors import UserError
from tests.marks import sweep


def build(name, **options):
    return registry.memory(name)(32, 2, 16, **options)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("titans", {"map": "matrx"}, "Did you mean 'matrix'"),
        ("atlas", {"muon": "size"}, "Did you mean 'sized'"),
        ("atlas", {"chunk_size": 6, "muon_every": 4}, "multiple of muon_every"),
        ("atlas", {"chunk_size": 4, "muon_every": 4, "muon": "none"}, "muon 'sized' or 'plain'"),
        ("atlas", {"expansion": 0}, "expansion is 0"),
        ("omeganet", {"omega_window": 0}, "omega_window is 0"),
        ("omeganet", {"degree": 0}, "degree is 0"),
        ("omeganet", {"features": "power"}, "Did you mean 'powers'"),
        ("omeganet", {"sketch_width": 8}, "features=sketch"),
        ("dla", {"map": "matrix", "chunk_size": 16}, "gradient is the same"),
        ("surprise-omeganet", {"chunk_size": 16}, "step is not the family's"),
        ("atlas", {"most_momentum": 1.5}, "most_momentum is 1.5"),
        ("atlas", {"most_momentum": 0, "chunk_size": 4, "muon_every": 4}, "most_momentum above 0"),
        ("atlas", {"window_counts": "writen"}, "Did you mean 'written'"),
        ("atlas", {"window_counts": "written", "omega_window": 1}, "omega_window 2 or more"),
        ("omeganet", {"window_counts": "written", "chunk_size": 16}, "chunk_size 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(name, options, said):
    with pytest.raises(UserError, match=said):
        build(name, **options)


@torch.no_grad()
def test_nothing_is_written_before_the_stream_begins():
    """A window of 4 reaches back before the first token, where zeros stand; their features must be zeros too."""
    memory, x = verify.builder(registry.memory("dot"), {"omega_window": 4})(write_bias=5.0), verify.tokens(length=6)
    gates = {name: torch.nn.functional.hardsigmoid(linear(x)) for name, linear in memory.gate.items()}
    (k, v), q = memory._pairs(x), memory._address(memory.query(x))
    terms, M, outputs = memory.terms(gates), memory.init_state(x.shape[0])["M"], []
    for t in range(x.shape[1]):
        step = torch.zeros_like(M)
        for j in range(min(t, 3) + 1):  # only tokens that exist
            error = torch.einsum("bhk,bhkv->bhv", k[:, t - j], M) - v[:, t - j]
            scale = terms.window[:, t, :, j] / k[:, t - j].square().sum(-1).clamp_min(1)
            step = step + torch.einsum("bhk,bhv->bhkv", k[:, t - j], scale[..., None] * error)
        M = M - terms.write[:, t, :, None, None] * step
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], M))
    assert (memory(x)[0] - memory.out(torch.stack(outputs, 1).flatten(2))).abs().max() < 1e-10


@pytest.mark.parametrize(("name", "options"), [("titans", {}), ("titans", {"map": "matrix"}), ("atlas", {})])
@torch.no_grad()
def test_momentum_does_not_run_away(name, options):
    """Every gate open, none forgetting: with momentum up to 1 the state passed 1e4 within 2,000 tokens."""
    memory = verify.builder(registry.memory(name), options)(dtype=torch.float32, width=16, head=8, write_bias=3.0)
    for gate, bias in (("forget", -4.0), ("momentum", 4.0), ("lr", 4.0)):
        memory.gate[gate].weight.zero_()
        memory.gate[gate].bias.fill_(bias)
    _, state = memory(verify.tokens(1, 2000, 16).float(), output=False)
    assert max(float(state[name].abs().max()) for name in memory.init_state(1)) < 20


@sweep("name, momentum", product(["titans", "atlas"], [0.95, 0.99]), quick=[("titans", 0.99)])
@torch.no_grad()
def test_momentum_up_to_one_does_not_run_away(name, momentum):
    """As printed the same stream takes `titans` past 1e17 at 0.95 and `atlas` past 800."""
    memory = verify.builder(registry.memory(name), {"most_momentum": 1.0})(
        dtype=torch.float32, width=16, head=8, write_bias=3.0
    )
    for gate, bias in (("forget", -4.0), ("momentum", 6 * momentum - 3), ("lr", 4.0)):
        memory.gate[gate].weight.zero_()
        memory.gate[gate].bias.fill_(bias)
    _, state = memory(verify.tokens(1, 2000, 16).float(), output=False)
    assert max(float(state[name].abs().max()) for name in memory.init_state(1)) < 20


@torch.no_grad()
def test_up_to_one_half_a_free_momentum_is_the_bounded_one():
    memories = [verify.builder(registry.memory("atlas"), {"most_momentum": most})() for most in (0.5, 1.0)]
    x = verify.tokens()
    for memory in memories:
        memory.gate["momentum"].weight.zero_()  # its bias gives 0.08
    (y, state), (y2, state2) = (memory(x) for memory in memories)
    assert torch.equal(y, y2) and all(torch.equal(state[name], state2[name]) for name in state)


@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_a_gradient_and_its_echoes_are_two_gradients_at_most(momentum):
    """Summed over all later steps, 1 / (1 - m) times what the token itself counts."""
    memory = build("titans", most_momentum=1.0)
    gates = {name: torch.ones(1) for name in memory.gate} | {"momentum": torch.full((1,), momentum)}
    terms = memory.terms(gates)
    assert float(terms.window) / (1 - momentum) <= 2.0001


@torch.no_grad()
def test_a_window_may_count_written_tokens_alone():
    """The older token of a window of 2 weighs what its own write gate lets through, also across a split."""
    memory, x = verify.builder(registry.memory("omeganet"), {"window_counts": "written"})(), verify.tokens(1, 2)
    gates, (k, v) = memory._gates(x), memory._pairs(x)
    M = memory.init_state(1)["M"]
    for t in range(2):
        older = gates["lag1"][:, t] * (gates["write"][:, t - 1] if t else 0)
        step = torch.zeros_like(M)
        for token, weight in ((t, 1 / (1 + older)), (t - 1, older / (1 + older))):
            if token >= 0:
                error = torch.einsum("bhk,bhkv->bhv", k[:, token], M) - v[:, token]
                scale = weight / k[:, token].square().sum(-1).clamp_min(1)
                step = step + torch.einsum("bhk,bhv->bhkv", k[:, token], scale[..., None] * error)
        w, f = (gates[name][:, t, :, None, None] for name in ("write", "forget"))
        M = (1 - w * f) * M - w * step
    state = verify.stream(memory, x, [1, 1])[1]
    assert (state["M"] - M).abs().max() < 1e-12 and torch.equal(state["halo_write"], gates["write"][:, 1:])


@sweep(
    "name",
    ["atlas", "ttt-linear", "gated-deltanet", "omeganet:window_counts=written"],
    quick=["gated-deltanet", "ttt-linear"],
)
@torch.no_grad()
def test_a_state_does_not_keep_its_block_alive(name):
    name, options = registry.parse_memory(name)
    memory = build(name, **options)
    _, state = memory(torch.randn(1, 5000, 32))
    assert all(x.untyped_storage().nbytes() == x.numel() * x.element_size() for x in state.values())
