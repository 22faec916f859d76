"""Dense reading leaves the state that the decoder itself leaves, however a stream is split."""

import pytest
import torch

from atlas_bench.models import dense
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.dense import DenseReader
from tests.marks import sweep
from tests.models.test_events import gap

WINDOW = 5


def decoder(memory="gated-deltanet", bias=-0.6, **options):
    """A random decoder of three layers whose memory writes where a gate of that bias is open."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 32, "n_heads": 2, "n_layers": 3, "attention_window": WINDOW}
    model = Decoder(Config(memory, **{**sizes, **options})).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and weight.abs().sum() == 0:  # outputs begin at zero, which would hide an error
            torch.nn.init.normal_(weight, std=0.2)
        if name.endswith("gate.write.bias"):
            weight.fill_(bias)
        if name.endswith("attention.bias"):
            torch.nn.init.normal_(weight)
    return model


@torch.inference_mode()
def differ(model, rows, lengths):
    """The greatest difference between the states after the same blocks."""
    tokens = torch.randint(64, (rows, sum(lengths)), generator=torch.Generator().manual_seed(1))
    reader, mine, theirs = DenseReader(model), model.start(rows), model.start(rows)
    for block in tokens.split(lengths, 1):
        mine, theirs = reader.feed(mine, block), model(block, theirs, output=False)[1]
        assert [{part: set(layer[part]) for part in layer} for layer in mine] == [
            {part: set(layer[part]) for part in layer} for layer in theirs
        ]
    return gap(mine, theirs)


@sweep("rows", [1, 3], quick=[3])
@pytest.mark.parametrize("bias", [-9.0, -2.9, 2.0])
@pytest.mark.parametrize(
    ("memory", "options"),
    [
        ("gated-deltanet", {}),
        ("gated-deltanet", {"screen": 4}),
        ("gated-deltanet", {"memory_options": {"printed": True}}),
        ("gated-deltanet", {"memory_options": {"short_conv": 4, "output_gate": "silu"}}),
        ("kda", {}),
        ("omeganet", {}),
        ("omeganet", {"memory_options": {"window_counts": "written"}}),
        ("atlas", {"memory_options": {"features": "monomials"}}),
        ("titans", {}),
        ("titans", {"memory_options": {"chunk_size": 16}}),
    ],
)
def test_states_are_those_of_the_decoder(memory, options, bias, rows, monkeypatch):
    monkeypatch.setattr(dense, "PIECE", 64)
    assert differ(decoder(memory, bias, **options), rows, [1, 4, 5, 6, 9, 200, 64, 63, 10]) < 1e-4


@torch.inference_mode()
def test_states_and_tokens_are_left_as_they_were():
    model = decoder()
    reader = DenseReader(model)
    tokens = torch.randint(64, (2, 40))
    state = reader.feed(model.start(2), tokens)
    copies = [{part: {k: x.clone() for k, x in layer[part].items()} for part in layer} for layer in state]
    table = model.embedding.weight.clone()
    reader.feed(state, tokens)
    assert gap(state, copies) == 0 and torch.equal(table, model.embedding.weight)


@torch.inference_mode()
def test_what_a_stream_left_in_memory_does_not_reach_another():
    model = decoder()
    reader, tokens = DenseReader(model), torch.randint(64, (1, 32))
    lost = [{part: {k: x * torch.nan for k, x in layer[part].items()} for part in layer} for layer in model.start(1)]
    reader.feed(lost, tokens)
    state = reader.feed(model.start(1), tokens)
    assert gap(state, model(tokens, model.start(1), output=False)[1]) < 1e-5


@pytest.mark.parametrize(
    ("options", "can"),
    [
        ({}, True),
        ({"memory": "none"}, False),
        ({"placement": "mag"}, False),
        ({"attention_window": 0}, False),
        ({"n_persistent": 2}, False),
    ],
)
def test_what_it_can_read(options, can):
    assert DenseReader.can_read(decoder(**options)) is can
