"""Short convolutions, output norm and output gate around a memory; the contracts hold with them, test_memories.py."""

import pytest
import torch
import torch.nn.functional as F

from atlas_bench import registry
from atlas_bench.comparison.fixtures import builder, tokens
from atlas_bench.errors import UserError
from atlas_bench.models import cost
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.memory.surroundings import build
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.recipe import Recipe

OPTIONS = {"short_conv": 4, "output_norm": True, "output_gate": "sigmoid"}


def convolved(x, weight):
    """silu of the sum over the newest tokens, one token and channel at a time."""
    y = torch.zeros_like(x)
    for t in range(x.shape[1]):
        for j in range(weight.shape[1]):
            if t >= j:
                y[:, t] += weight[:, -1 - j] * x[:, t - j]
    return F.silu(y)


@torch.no_grad()
def test_queries_keys_values_and_outputs_are_what_the_file_says():
    memory, x = builder(registry.memory("gated-deltanet"), OPTIONS)(write_bias=0.0), tokens(length=20)
    around = memory.around
    for part in around.convolutions.values():
        part.weight.normal_(std=0.5)
    around.norm.weight.normal_()
    shape = (memory.n_heads, memory.head_dim)
    q, k, v = (
        convolved(getattr(memory, name)(x), around.convolutions[name].weight).unflatten(-1, shape)
        for name in ("query", "key", "value")
    )
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    w, f = (F.hardsigmoid(memory.gate[name](x)) for name in ("write", "forget"))
    M, outputs = x.new_zeros(len(x), *shape, memory.head_dim), []
    for t in range(x.shape[1]):
        M = (1 - w * f)[:, t, :, None, None] * M
        error = v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], M)
        M = M + torch.einsum("bhk,bhv->bhkv", k[:, t], w[:, t, :, None] * error)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], M))
    y = torch.stack(outputs, 1)
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * around.norm.weight
    y = y.flatten(2) * torch.sigmoid(around.gate(x))
    assert (memory(x)[0] - memory.out(y)).abs().max() < 1e-10


def test_without_options_there_is_nothing_around():
    memory = build(registry.memory("kda"), 16, 2, 8, {"short_conv": 0, "output_gate": "none", "output_norm": False})
    assert memory.around is None and "halo" not in memory.start(1)


@pytest.mark.parametrize("placement", ["behind", "lmm", "mal", "mag"])
@torch.no_grad()
def test_a_model_reads_the_same_under_any_split(placement):
    torch.manual_seed(0)
    config = Config("kda", OPTIONS, vocab_size=64, d_model=32, n_heads=2, placement=placement, attention_window=5)
    model = Decoder(config).double()
    for weight in model.parameters():
        if weight.dim() == 2 and not weight.any():
            weight.normal_(std=0.2)
    ids = torch.randint(1, 64, (2, 50), generator=torch.Generator().manual_seed(1))
    whole, _ = model(ids)
    state, parts = None, []
    for part in ids.split([1, 2, 17, 30], 1):
        hidden, state = model(part, state)
        parts.append(hidden)
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("titans:chunk_size=16,short_conv=4", "short_conv is 4, with chunk_size 16"),
        ("kda:output_gate=tanh", "output_gate 'tanh'"),
        ("kda:short_conv=-1", "short_conv is -1"),
        ("kda:short_con=4", "did you mean 'short_conv'"),
        ("kda:output_norm=4", "output_norm is 4, which is no bool"),
    ],
)
def test_a_wrong_option_is_one_message(spec, said):
    with pytest.raises(UserError) as error:
        registry.typed_memory(spec)
    assert said.lower() in str(error.value).lower()


def test_memory_as_context_has_no_short_convolution():
    with pytest.raises(UserError, match="short_conv is 4, and placement 'mac'"):
        Decoder(Config("kda", {"short_conv": 4}, d_model=32, n_heads=2, placement="mac"))


def test_what_surrounds_a_memory_is_counted():
    plain, around = (Config("kda", options, d_model=32, n_heads=2) for options in ({}, OPTIONS))
    assert cost.feed_flops(around, 1000) - cost.feed_flops(plain, 1000) == 1000 * (2 * 32 * 4 + 2 * 32 * 32)


def test_muon_gets_linear_maps_alone():
    model = Decoder(Config("rwkv7", OPTIONS, d_model=32, n_heads=2, vocab_size=64))
    muon, adam = (
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in Optimizers(model, Recipe())
    )
    names = {id(p): name for name, p in model.named_parameters()}
    assert muon | adam == set(names) and not muon & adam
    assert all(".constant." not in names[p] and "convolutions" not in names[p] for p in muon)
    assert {names[p].rpartition("memory.")[2] for p in muon if "blocks.0.memory" in names[p]} == {
        "query.weight", "key.weight", "value.weight", "out.weight", "around.gate.weight",
    }  # fmt: skip
