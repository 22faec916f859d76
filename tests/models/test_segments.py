"""Reading in segments side by side gives the state of reading one after another; what claims to be affine is."""

from __future__ import annotations

import pytest
import torch

from atlas_bench import registry
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.memory.surroundings import build
from atlas_bench.models.segments import SegmentReader
from tests.models.test_events import gap, rarely_open, stream

AFFINE = [name for name in registry.MEMORIES if (variant := registry.memory(name)) and variant.affine]


def dense(memory, **options):
    """A random decoder of two layers, written at every token more or less."""
    torch.manual_seed(0)
    config = Config(memory, vocab_size=64, d_model=32, n_heads=2, n_layers=2, attention_window=5, **options)
    model = Decoder(config).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.dim() == 2 and weight.abs().sum() == 0:  # outputs begin at zero, which would hide an error
            torch.nn.init.normal_(weight, std=0.2)
    return model


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("name", AFFINE)
@torch.no_grad()
def test_tokens_take_a_memory_to_a_m_plus_b(name, printed):
    torch.manual_seed(0)
    memory = build(registry.memory(name), 32, 2, 16, {"printed": True} if printed else {})
    x, start = torch.randn(1, 40, 32), memory.start(1)

    def after(M):
        end = memory(x, start | {"M": M}, output=False)[1]
        assert all(torch.equal(end[key], start[key]) for key in end if key not in ("M", "halo"))
        return end["M"]

    nothing = torch.zeros_like(start["M"])
    one = nothing + torch.eye(*nothing.shape[-2:])
    B, M = after(nothing), torch.randn_like(nothing)
    A = (after(one) - B)[..., : nothing.shape[-2]]
    assert torch.allclose(after(M), A @ M + B, atol=1e-4) and float(A.abs().max()) > 1e-3


def test_these_are_affine():
    assert {"linear-attention", "deltanet", "gated-deltanet", "gla", "kda", "mamba2", "deltaproduct", "comba"} <= {
        *AFFINE
    }
    assert not {"atlas", "titans", "omeganet", "ttt-linear"} & {*AFFINE}
    assert not SegmentReader.can_read(dense("titans")) and SegmentReader.can_read(dense("kda"))


@pytest.mark.parametrize("segments", [1, 3, 7])
@pytest.mark.parametrize(
    ("memory", "options"),
    [
        ("gated-deltanet", {}),
        ("linear-attention", {"printed": True}),
        ("kda", {"short_conv": 4, "output_gate": "silu"}),
        ("mesanet", {}),
    ],
)
@torch.no_grad()
def test_segments_give_the_state_of_dense_reading(memory, options, segments):
    model, tokens = dense(memory, memory_options=options), stream(2000, 0.01)
    reader, state = SegmentReader(model, segments), model.start(2)
    for start, stop in ((0, 3), (3, 700), (700, 1500), (1500, 2000)):  # the first is too short for segments
        state = reader.feed(state, tokens[:, start:stop])
    _, expected = model(tokens, output=False)
    assert relative(expected, state) < 1e-5 and gap(model.start(2), state) > 0.1
    question = tokens[:, :6]
    assert torch.allclose(model(question, expected)[0], model(question, state)[0], atol=1e-4)


@torch.no_grad()
def test_a_screen_is_read_in_segments_too():
    model, tokens = rarely_open(), stream(2000, 0.02)
    state = SegmentReader(model, 4).feed(model.start(2), tokens)
    _, expected = model(tokens, output=False)
    assert gap(expected, state) < 1e-5 and gap(model.start(2), state) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["gated-deltanet", "linear-attention"])
@torch.no_grad()
def test_segments_of_1m_tokens_give_the_state_of_reading_one_after_another(memory):
    model = dense(memory, memory_options={"printed": True})
    reader, state, expected = SegmentReader(model, 8), model.start(1), model.start(1)
    for seed in range(16):
        torch.manual_seed(seed)
        tokens = torch.randint(64, (1, 1 << 16))
        state = reader.feed(state, tokens)
        for part in tokens.split(4096, 1):
            expected = model(part, expected, output=False)[1]
    assert relative(expected, state) < 1e-5


def relative(one, other):
    """The greatest difference between two states, over the greatest number of that tensor."""
    return max(
        float((a[part][name] - b[part][name]).abs().max() / (1 + a[part][name].abs().max()))
        for a, b in zip(one, other, strict=True)
        for part in a
        for name in a[part]
    )
