"""Every placement with every kind of memory: its equations, exact streaming, causality, persistent tokens."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models import cost, loading, specs
from atlas_bench.models.attention import SlidingWindowAttention
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.memory.gated_deltanet import GatedDeltaNet
from atlas_bench.models.placement import PLACEMENTS, norm
from atlas_bench.models.tokenizer import embedded

MEMORIES = {"gated-deltanet": {}, "atlas": {}, "titans": {}, "titans in chunks": {"chunk_size": 8}}
SEGMENT, LENGTH = 16, 75


def tiny(placement, memory="gated-deltanet", **options):
    small = {"d_model": 16, "n_heads": 2, "vocab_size": 64, "attention_window": 8, "n_persistent": 3}
    name, chosen = memory.split(" ")[0], MEMORIES.get(memory, {})
    return Config(placement=placement, memory=name, memory_options=chosen, **{**small, "segment": SEGMENT, **options})


def make(config, *, gate_bias=-1.0, dtype=torch.float64):
    """Every part contributes, and the write gates are open on a part of the tokens."""
    torch.manual_seed(0)
    decoder = Decoder(config).to(dtype)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith(("out.weight", "down.weight", "w1", "attention.bias", "norm.weight")):
                parameter.normal_(std=0.3)
            if ".gate." in name and name.endswith("weight"):
                parameter.normal_(std=0.3)
        for block in decoder.blocks:
            if block.memory is not None:
                block.memory.gate["write"].bias.fill_(gate_bias)
    return decoder


@pytest.fixture(params=PLACEMENTS)
def placement(request):
    return request.param


@pytest.fixture(params=MEMORIES)
def memory(request):
    return request.param


@pytest.fixture
def tokens():
    return torch.randint(0, 64, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def stream(model, tokens, splits, **options):
    state, outputs = None, []
    for part in tokens.split(splits, 1):
        y, state = model(part, state, **options)
        outputs.append(y)
    return outputs, state


def flat(state):
    return {(i, p, n): x for i, layer in enumerate(state) for p, part in layer.items() for n, x in part.items()}


def same(a, b, tolerance=1e-9):
    a, b = flat(a), flat(b)
    return a.keys() == b.keys() and all((a[k] - b[k]).abs().max() <= tolerance for k in a)


def test_any_split_gives_the_same(placement, memory, tokens):
    """Around the segments' ends, in single tokens, and read for the state alone."""
    model = make(tiny(placement, memory))
    with torch.inference_mode():
        (whole,), state = stream(model, tokens, [LENGTH])
        assert 0 < model.write_rate() < 1
        for splits in ([1] * LENGTH, [15, 16, 17, 27], [16, 48, 11]):
            pieces, after = stream(model, tokens, splits)
            assert (whole - torch.cat(pieces, 1)).abs().max() < 1e-9 and same(state, after)
        _, silent = stream(model, tokens, [20, 55], output=False)
    assert same(state, silent)


def test_no_token_sees_a_later_one(placement, memory, tokens):
    """In the middle of a segment and at its start."""
    model = make(tiny(placement, memory))
    with torch.inference_mode():
        hidden, _ = model(tokens)
        for at in (40, 48):
            changed = tokens.clone()
            changed[:, at] = (changed[:, at] + 1) % 64
            difference = (hidden - model(changed)[0]).abs().amax((0, 2))
            assert difference[:at].max() < 1e-9 and difference[at:].min() > 1e-9


def test_rows_do_not_touch_each_other(placement, tokens):
    model = make(tiny(placement))
    with torch.inference_mode():
        both, alone = model(tokens)[0], model(tokens[1:])[0]
    assert (both[1:] - alone).abs().max() < 1e-9


def test_every_weight_learns(placement, memory, tokens):
    model = make(tiny(placement, memory))
    hidden, _ = model(tokens[:, :40])
    (hidden * torch.randn_like(hidden)).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_every_weight_learns_from_the_beginning(placement, tokens):
    """As it is made, zeros and all: after three steps no weight has stood still, and none has been blown away."""
    torch.manual_seed(0)
    model = Decoder(tiny(placement)).double()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        hidden, _ = model(tokens[:, :40])
        F.cross_entropy(model.logits(hidden).flatten(0, 1), tokens[:, 1:41].flatten()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
    assert [name for name, x in model.state_dict().items() if torch.equal(x, before[name])] == []


def test_gradients_are_right(placement):
    """Against finite differences, over three segments and a bit, in the input and in the persistent tokens."""
    block = make(tiny(placement, d_model=4, segment=3, attention_window=2, n_persistent=2)).blocks[0]
    x = torch.randn(1, 10, 4, dtype=torch.float64, requires_grad=True)

    def run(x, p):
        with torch.nn.utils.stateless._reparametrize_module(block, {"persistent": p}):
            return block(x, block.start(1))[0]

    p = block.persistent.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (x, p), eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_state_is_constant_and_rows_come_first(placement, memory, tokens):
    model = make(tiny(placement, memory))
    with torch.inference_mode():
        shapes = [{k: x.shape for k, x in flat(model(tokens[:, :n])[1]).items()} for n in (1, 20, LENGTH)]
    assert shapes[0] == shapes[1] == shapes[2] and all(shape[0] == 2 for shape in shapes[0].values())
    with torch.device("meta"):
        stated = Decoder(model.config).start(2)
    for state in (model.start(2), stated):
        assert shapes[0] == {k: x.shape for k, x in flat(state).items()}


def test_a_packed_state_comes_back_bit_for_bit(placement, memory, tokens):
    model = LanguageModel("tiny", make(tiny(placement, memory)), embedded(), {})
    state = model.feed(model.start(2), tokens.numpy())
    packed = model.pack(state)
    back = model.unpack(packed)
    assert same(state, back, 0) and all(x.dtype == flat(state)[k].dtype for k, x in flat(back).items())
    assert model.finite(state) and model.state_bytes(state) == sum(x.nbytes for x in packed.values()) // 2
    after = [model.feed(s, np.ones((1, 20), dtype=np.int32)) for s in (model.row(state, 1), model.row(back, 1))]
    assert same(*after)


def test_the_cache_is_as_large_as_stated(placement):
    config = tiny(placement)
    kept = [x for k, x in flat(make(config, dtype=torch.float32).start(1)).items() if k[1:] in PAIRS]
    assert sum(x.nbytes for x in kept) == cost.cache_bytes(config, 10_000)


PAIRS = (("attention", "k"), ("attention", "v"))


def test_persistent_tokens_are_seen_at_the_end_of_a_long_stream(placement, memory):
    """Each of them after 600 tokens, by attention directly, by a memory alone because it wrote them down."""
    model = make(tiny(placement, memory, n_layers=1), gate_bias=-6.0)
    block, tokens = model.blocks[0], torch.randint(0, 64, (1, 600), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        gates = block.memory.gate["write"].weight
        block.persistent += (7 - block.persistent @ gates.T) @ torch.linalg.pinv(gates).T  # opens every write gate
    hidden, _ = model(tokens)
    (hidden[0, -1] * torch.randn(16)).sum().backward()
    assert model.write_rate() < 0.1
    assert (block.persistent.grad.abs().amax(1) > 1e-6).all()


def test_a_memory_has_read_the_persistent_tokens_but_in_mac(memory):
    for placement in PLACEMENTS:
        block = make(tiny(placement, memory)).blocks[0]
        started, empty = block.start(2)["memory"], block.memory.start(2)
        assert all(torch.equal(started[n], empty[n]) for n in empty) == (placement == "mac")


# The equations, token by token ------------------------------------------------------------------------


def rms(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def attend(attention, query, seen):
    """Softmax attention of one token: query [D]; seen: (token [D], bias [H]) of everything it may look at."""
    size, outputs = attention.head_dim, []
    for head in range(attention.n_heads):
        here = slice(head * size, (head + 1) * size)
        q = attention.query(query)[here]
        scores = torch.stack([q @ attention.key(x)[here] / size**0.5 + bias[head] for x, bias in seen])
        weights = scores.exp() / scores.exp().sum()
        outputs.append(sum(w * attention.value(x)[here] for w, (x, _) in zip(weights, seen, strict=True)))
    return attention.out(torch.cat(outputs))


def sliding(attention, p, u):
    """Attention over [p || window] of each token of u [T, D]; before the stream stand tokens of zeros."""
    before = [torch.zeros_like(u[0])] * attention.window
    stream, none = [*before, *u], torch.zeros(attention.n_heads)
    outputs = []
    for t in range(len(u)):
        i = t + attention.window
        window = [(stream[i - d], attention.bias[:, d]) for d in range(attention.window)]
        outputs.append(attend(attention, u[t], [(x, none) for x in p] + window))
    return torch.stack(outputs)


def remember(memory, p, u):
    """What the memory says after each token of u, having read p first; one token at a time."""
    state, outputs = memory.start(1), []
    for x in [*p, *u]:
        y, state = memory(x[None, None], state)
        outputs.append(y[0, 0])
    return torch.stack(outputs[len(p) :])


def recall(memory, state, u):
    """A read without a write: the same memory with gates that nothing opens."""
    shut = copy.deepcopy(memory)
    shut.gate["write"].weight.data.zero_()
    shut.gate["write"].bias.data.fill_(-100.0)
    return torch.stack([shut(x[None, None], state)[0][0, 0] for x in u])


def gate(block, y, m):
    return block.attention_norm.weight * rms(y) / (1 + (-block.memory_norm.weight * rms(m)).exp())


def lmm(block, x):
    return x + remember(block.memory, block.persistent, rms(x))


def behind(block, x):
    return lmm(block, x + sliding(block.attention, block.persistent, rms(x)))


def mal(block, x):
    y = lmm(block, x)
    return y + sliding(block.attention, block.persistent, rms(y))


def mag(block, x):
    y, m = sliding(block.attention, block.persistent, rms(x)), remember(block.memory, block.persistent, rms(x))
    return x + gate(block, y, m)


def mac(block, x):
    attention, memory, p = block.attention, block.memory, block.persistent
    state, outputs, none = memory.start(1), [], torch.zeros(attention.n_heads)
    for segment in rms(x).split(attention.segment):
        h = recall(memory, state, segment)  # (21)
        for i, u in enumerate(segment):
            seen = [(x, none) for x in p]  # (22)
            seen += [(h[j], attention.bias[:, 0, i - j]) for j in range(i + 1)]
            seen += [(segment[j], attention.bias[:, 1, i - j]) for j in range(i + 1)]
            y = attend(attention, u, seen)  # (23)
            m, state = memory(rms(y)[None, None], state)  # (24), and the read of (25)
            outputs.append(gate(block, y, m[0, 0]))
    return x + torch.stack(outputs)


@pytest.mark.parametrize("statement", [behind, lmm, mal, mag, mac], ids=lambda f: f.__name__)
def test_a_placement_is_its_equations(statement, memory):
    config = tiny(statement.__name__, memory, d_model=8, segment=8, attention_window=3, n_persistent=2)
    block = make(config, gate_bias=0.0).blocks[0]
    x = torch.randn(1, 19, 8, dtype=torch.float64)
    with torch.no_grad():
        y, _ = block(x, block.start(1))
        mixed = statement(block, x[0])
        expected = mixed + block.down(F.relu(block.up(rms(mixed))).square())
    assert (y[0] - expected).abs().max() < 1e-9


# What was before placements, and what is refused ------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in specs.names() if n not in registry.MODELS])
def test_the_blocks_of_embedded_models_are_attention_memory_mlp_bit_for_bit(name):
    """Each behind a norm: the order in which they were trained. What a memory computes is its own tests' matter."""
    model = loading.load(name).model
    tokens = torch.randint(0, 4096, (2, 200), generator=torch.Generator().manual_seed(3))

    with torch.inference_mode():
        hidden, state = model(tokens)
        x, old, screen = norm(model.embedding(tokens)), [], None
        if model.screen is not None:
            screen, past = model.screen(x, model.screen.start(2))
        for block in model.blocks:
            y, attention = block.attention(norm(x), block.attention.start(2))
            x, layer = x + y, {"attention": attention}
            if block.memory is not None:
                y, layer["memory"] = block.memory(norm(x), block.memory.start(2), screen=screen)
                x = x + y
            x = x + block.down(F.relu(block.up(norm(x))).square())
            old.append(layer)
    if screen is not None:
        old[0]["screen"] = past
    assert torch.equal(hidden, norm(x)) and same(state, old, 0)


def test_norm_is_torchs_own():
    x = torch.randn(3, 5, 32, dtype=torch.float64) * torch.tensor([1e-4, 1.0, 1e4, 0.0, 3.0])[:, None]
    assert (norm(x) - F.rms_norm(x, (32,), eps=1e-6)).abs().max() < 1e-12


def test_the_write_rate_of_mac_is_that_of_all_segments(tokens):
    model = make(tiny("mac", n_layers=1))
    with torch.inference_mode():
        model(tokens[:, :48])
        whole, rates, state = float(model.write_rate()), [], None
        for part in tokens[:, :48].split(16, 1):
            _, state = model(part, state)
            rates.append(float(model.write_rate()))
    assert len(set(rates)) == 3 and abs(whole - sum(rates) / 3) < 1e-9


def test_combinations_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match=r"unknown placement 'macs'.* Did you mean 'mac'"):
        tiny("macs")
    for placement in ("lmm", "mal", "mag", "mac"):
        with pytest.raises(UserError, match=rf"placement '{placement}' needs a memory"):
            tiny(placement, "none")
    for placement in ("behind", "mal", "mag"):
        with pytest.raises(UserError, match="attention_window 0 is full attention"):
            tiny(placement, attention_window=0)
    with pytest.raises(UserError, match="n_persistent is -1"):
        tiny("mac", n_persistent=-1)
    with pytest.raises(UserError, match="segment"):
        tiny("mac", segment=0)


def test_a_segment_is_whole_chunks_of_the_memory(monkeypatch):
    class Chunked(GatedDeltaNet):
        def __init__(self, *args):
            super().__init__(*args)
            self.chunk_size = 12

    monkeypatch.setattr(registry, "memory", lambda name: Chunked)
    with pytest.raises(UserError, match=r"segment 16 is no multiple of the memory's chunk_size 12\..* 24"):
        Decoder(tiny("mac"))
    Decoder(replace(tiny("mac"), segment=24))


@pytest.mark.parametrize("length", [5, 16, 40])
@pytest.mark.parametrize("rows", [1, 3])
def test_attention_is_the_same_with_gradients_and_without(length, rows):
    """torch chooses another way for a mask that is learnt."""
    torch.manual_seed(0)
    attention = SlidingWindowAttention(32, 4, 16)
    torch.nn.init.normal_(attention.out.weight)
    torch.nn.init.normal_(attention.bias)
    x = torch.randn(rows, length, 32)
    learning, _ = attention(x, attention.start(rows))
    with torch.inference_mode():
        reading, _ = attention(x, attention.start(rows))
    assert (learning - reading).abs().max() < 1e-5
