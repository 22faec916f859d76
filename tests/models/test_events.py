"""Reading by events gives the state of dense reading, however a stream is split, and computes less."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch

from atlas_bench.errors import UserError
from atlas_bench.models import lm
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.events import EventReader
from atlas_bench.models.tokenizer import embedded

RARE = (7, 8, 9)  # tokens that open the screen


def rarely_open(memory="gated-deltanet", **options):
    """A random decoder of three layers whose screen is open after a RARE token, and shut elsewhere."""
    torch.manual_seed(0)
    config = Config(memory, vocab_size=64, d_model=32, n_heads=2, n_layers=3, attention_window=5, screen=4, **options)
    model = Decoder(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and weight.abs().sum() == 0:  # outputs begin at zero, which would hide an error
            torch.nn.init.normal_(weight, std=0.2)
        if name.endswith("gate.write.bias"):
            weight.fill_(2.0)
    screen = model.screen
    screen.tap.weight.zero_()
    screen.out.weight.fill_(1.0)
    screen.out.bias.fill_(-4.0)
    for i, token in enumerate(RARE):
        screen.tap.weight[16 + i] = model.embedding.weight[token] / model.embedding.weight[token].norm()  # tap 1
    screen.bias.fill_(-4.0)  # of sqrt(32) = 5.66 where the token is that one
    return model


def stream(length, share, rows=2):
    rng = np.random.default_rng(1)
    tokens = rng.integers(10, 64, (rows, length))
    rare = rng.random((rows, length)) < share
    tokens[rare] = rng.choice(RARE, rare.sum())
    return torch.from_numpy(tokens)


def gap(one, other):
    return max(
        float((a[part][name] - b[part][name]).abs().max())
        for a, b in zip(one, other, strict=True)
        for part in a
        for name in a[part]
    )


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("memory", "options"),
    [
        ("gated-deltanet", {}),
        ("kda", {"short_conv": 4, "output_gate": "silu"}),
        ("omeganet", {"omega_window": 3}),
        ("titans", {}),
        ("atlas", {}),
        ("atlas", {"features": "monomials", "most_momentum": 1.0, "window_counts": "written", "omega_window": 3}),
    ],
)
def test_the_state_is_that_of_dense_reading(memory, options, rows):
    model = rarely_open(memory, memory_options=options)
    reader, tokens = EventReader(model), stream(2000, 0.004, rows)
    _, dense = model(tokens, output=False)
    state, start = model.start(rows), 0
    for stop in (700, 701, 703, 760, 1400, 2000):  # blocks shorter than a window, too
        state = reader.feed(state, tokens[:, start:stop])
        start = stop
    assert gap(dense, state) < 1e-5
    assert gap(model.start(rows), state) > 0.1  # something was written
    question = tokens[:, :6]
    assert torch.allclose(model(question, dense)[0], model(question, state)[0], atol=1e-4)


def test_tables_give_the_screen_itself():
    model = rarely_open()
    reader, tokens = EventReader(model), stream(500, 0.05)
    expected, _ = model.screen(_embedded(model, tokens), model.screen.start(2))
    screen, past = reader.screen(model.screen.start(2)["past"], tokens)
    assert torch.allclose(screen, expected, atol=1e-5) and 0 < float((screen > 0).float().mean()) < 0.1
    after, _ = reader.screen(past, tokens)  # begins where the first ended
    both = _embedded(model, torch.cat([tokens, tokens], 1))
    assert torch.allclose(after, model.screen(both, model.screen.start(2))[0][:, 500:], atol=1e-5)


def _embedded(model, tokens):
    from atlas_bench.models.placement import norm

    return norm(model.embedding(tokens))


@pytest.mark.parametrize("memory", ["gated-deltanet", "omeganet", "titans", "atlas"])
def test_blocks_searched_at_once_and_backwards_give_the_very_state(memory):
    model = rarely_open(memory)
    reader, tokens = EventReader(model), stream(2000, 0.004)
    tokens[:, 1200:1400] = RARE[0]  # too many writes for events
    cuts = [0, 3, 500, 620, 1200, 1400, 1401, 2000]

    def search(part):
        start, stop = part
        before = tokens[:, max(0, start - 4) : start]
        return reader.search(reader.past(before), tokens[:, start:stop])

    parts = list(pairwise(cuts))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(search, reversed(parts)))[::-1]
    assert [each is None for each in found] == [True, False, False, False, True, True, False]
    state = expected = model.start(2)
    for (start, stop), each in zip(parts, found, strict=True):
        expected = reader.feed(expected, tokens[:, start:stop])
        state = reader.feed(state, tokens[:, start:stop]) if each is None else reader.replay(state, each)
    assert gap(expected, state) == 0.0 and gap(model.start(2), state) > 0.1


def test_what_no_open_token_sees_is_not_computed(monkeypatch):
    model = rarely_open()
    reader, tokens = EventReader(model), stream(4000, 0.001, rows=1)
    computed = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, args: computed.append(args[0].shape[1]))
    reader.feed(model.start(1), tokens)
    assert computed == sorted(computed, reverse=True) and computed[0] < 400  # 3 x 4 tokens before each, and the end


def test_a_screen_needs_a_memory_whose_chunks_end_with_each_token():
    with pytest.raises(UserError, match=r"screen 4 .* memory is 'none'"):
        Config(screen=4)
    with pytest.raises(UserError, match=r"chunk_size is 16\. Give chunk_size 1, or screen 0"):
        Decoder(Config("titans", memory_options={"chunk_size": 16}, screen=4))


def test_reading_by_events_is_in_float32_on_any_processor(monkeypatch):
    """A third party's machine with bf16 units must give the committed answers; they would buy no speed."""
    monkeypatch.setattr(lm, "best_matmul_precision", lambda device: ("bf16", "as on a processor with AMX"))
    precisions = {
        n: lm.LanguageModel("any", Decoder(Config("gated-deltanet", screen=n)), embedded(), {}).matmul_precision
        for n in (0, 4)
    }
    assert precisions == {0: "bf16", 4: "fp32"}
