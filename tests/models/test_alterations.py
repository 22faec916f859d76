"""Each alteration changes what its name says and nothing else; a removed ingredient is the rule built without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atlas_bench import registry
from atlas_bench.comparison.fixtures import builder, token_by_token, tokens
from atlas_bench.models import loading
from atlas_bench.models.alterations import INGREDIENTS, Recent, alterations, altered, hold
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.memory.atlas import Atlas
from atlas_bench.models.memory.gated_deltanet import GatedDeltaNet
from atlas_bench.models.memory.omeganet import OmegaNet
from atlas_bench.models.memory.titans import Titans
from atlas_bench.models.tokenizer import embedded
from atlas_bench.types import Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_memory.py"
CLOSED = ["layer1=closed", "layer2=closed", "memory=closed"]
STREAM = torch.randint(1, 64, (2, 80), generator=torch.Generator().manual_seed(2))


def random_model(memory="atlas", **config) -> LanguageModel:
    """A model of two layers in float64 whose gates differ from token to token and of which no weight is zero."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 32, "n_heads": 2, "attention_window": 5}
    decoder = Decoder(Config(memory, **sizes, **config)).double()
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if ".gate." in name and name.endswith("weight"):
                weight.normal_(std=0.5)
            elif weight.dim() > 1 and not weight.any():  # outputs begin at zero, which would hide what changes
                weight.normal_(std=0.3)
    return LanguageModel("tiny", decoder, embedded(), {})


def alteration(model: LanguageModel, name: str):
    return next(each for each in alterations(model.model) if each.name == name)


@torch.inference_mode()
def hidden(model: LanguageModel, ids=STREAM):
    return model.model(ids)[0]


@pytest.mark.parametrize(
    ("memory", "config", "names"),
    [
        (
            "atlas",
            {},
            ["muon=off", "window=1", "momentum=off", "forgetting=off", "lr=1", "degree=1", "ingredients=off", *CLOSED],
        ),
        ("titans", {}, ["momentum=off", "forgetting=off", "lr=1", "ingredients=off", *CLOSED]),
        ("titans", {"placement": "mac"}, ["momentum=off", "forgetting=off", "lr=1", "ingredients=off", *CLOSED]),
        ("omeganet", {}, ["window=1", "forgetting=off", "degree=1", "ingredients=off", *CLOSED]),
        ("gated-deltanet", {"screen": 3}, ["forgetting=off", *CLOSED, "screen=open"]),
        ("deltanet", {"n_layers": 1}, ["memory=closed"]),
        ("none", {}, []),
    ],
)
def test_what_a_model_has_can_be_taken_away(memory, config, names):
    model = random_model(memory, **config)
    attention = ["attention=self"] if config.get("placement") != "mac" else []
    assert [each.name for each in alterations(model.model)] == names + attention


def test_full_attention_has_nothing_to_take_away():
    assert alterations(Decoder(Config(attention_window=0, d_model=32, n_heads=2))) == []


@pytest.mark.parametrize("memory", [name for name in registry.MEMORIES if name != "none"])
def test_every_alteration_changes_the_output_and_leaves_the_model_as_it_was(memory):
    model = random_model(memory, **({"screen": 3} if memory == "atlas" else {}))
    before = hidden(model)
    for each in alterations(model.model):
        other = altered(model, each)
        assert other.name == f"tiny;{each.name}"
        assert (hidden(other) - before).abs().max() > 1e-6, each.name
        assert other.model.embedding.weight is model.model.embedding.weight  # shared, not copied
    assert torch.equal(hidden(model), before)


def without(gate: str, variant):
    """The same rule without a gate."""
    gates = {name: bias for name, bias in variant.gates.items() if name != gate}
    return type(variant.__name__, (variant,), {"gates": gates})


@pytest.mark.parametrize(
    ("name", "variant", "options", "other", "others"),
    [
        ("muon=off", Atlas, {}, Atlas, {"muon": "none"}),
        ("muon=off", Atlas, {"chunk_size": 8, "muon_every": 4}, Atlas, {"chunk_size": 8, "muon": "none"}),
        ("window=1", Atlas, {"omega_window": 3}, Atlas, {"omega_window": 1}),
        ("window=1", OmegaNet, {}, OmegaNet, {"omega_window": 1}),
        ("momentum=off", Atlas, {}, without("momentum", Atlas), {}),
        ("momentum=off", Titans, {"chunk_size": 8}, without("momentum", Titans), {"chunk_size": 8}),
        ("forgetting=off", Titans, {}, without("forget", Titans), {}),
        ("lr=1", Titans, {}, without("lr", Titans), {}),
        ("degree=1", OmegaNet, {"features": "sketch", "degree": 3}, OmegaNet, {"degree": 1}),
        ("degree=1", OmegaNet, {"features": "monomials"}, OmegaNet, {"degree": 1}),
        ("degree=1", OmegaNet, {}, OmegaNet, {"degree": 1}),
    ],
)
@torch.no_grad()
def test_a_removed_ingredient_is_the_rule_built_without_it(name, variant, options, other, others):
    memory, plain = builder(variant, options)(), builder(other, others)()
    next(each for each in INGREDIENTS if each.name == name).remove(memory)
    wanted = plain.state_dict()
    plain.load_state_dict({name: x for name, x in memory.state_dict().items() if name in wanted})
    x = tokens(length=100)
    assert (memory(x)[0] - plain(x)[0]).abs().max() < 1e-10


@torch.no_grad()
def test_without_forgetting_retention_is_1_and_gates_are_held_exactly():
    memory, x = builder(Titans)(), tokens()
    assert memory.terms(memory._gates(x)).retention.min() < 0.99
    for gate, value in (("forget", 0.0), ("lr", 1.0), ("momentum", 0.0)):
        hold(memory, gate, value)
        assert torch.equal(memory._gates(x)[gate], torch.full_like(memory._gates(x)[gate], value))
    assert memory.terms(memory._gates(x)).retention.eq(1).all()


@torch.no_grad()
def test_gated_deltanet_without_forgetting_is_deltanet():
    memory, plain = builder(GatedDeltaNet)(), builder(registry.memory("deltanet"))()
    hold(memory, "forget", 0.0)
    plain.load_state_dict({name: x for name, x in memory.state_dict().items() if "forget" not in name})
    x = tokens(length=100)
    assert (memory(x)[0] - token_by_token(plain, x)[0]).abs().max() < 1e-10


@pytest.mark.parametrize("memory", ["atlas", "gated-deltanet", "ttt-mlp"])
@torch.inference_mode()
def test_a_closed_layer_stays_as_at_the_start_and_others_do_not(memory):
    model = random_model(memory)
    start = model.start(2)
    for name, closed in (("layer1=closed", [True, False]), ("layer2=closed", [False, True]), ("memory=closed", [1, 1])):
        state = altered(model, alteration(model, name)).feed(model.start(2), STREAM.numpy())
        kept = model.model.blocks[0].memory.init_state(2)
        same = [
            all(torch.equal(new["memory"][part], old["memory"][part]) for part in kept)
            for new, old in zip(state, start, strict=True)
        ]
        assert same == closed, name


def test_attention_to_itself_sees_no_other_token():
    model = random_model("gated-deltanet")
    alone = altered(altered(model, alteration(model, "memory=closed")), alteration(model, "attention=self"))
    other = STREAM.clone()
    other[:, :40] = 1
    assert torch.equal(hidden(alone)[:, 40:], hidden(alone, other)[:, 40:])
    assert not torch.equal(hidden(model)[:, 40:44], hidden(model, other)[:, 40:44])


def test_an_open_screen_is_a_screen_of_ones_and_is_read_densely():
    model = random_model("gated-deltanet", screen=3)
    open_ = altered(model, alteration(model, "screen=open"))
    assert model.events is not None and open_.events is None
    screen = model.model.screen
    with torch.no_grad():
        screen.out.weight.zero_()
        screen.out.bias.fill_(3.0)
    assert (hidden(model) - hidden(open_)).abs().max() < 1e-12


def test_a_memory_of_the_users_takes_part_by_its_gates():
    model = random_model(registry.name_file(EXAMPLE))
    found = {each.name: each for each in alterations(model.model)}
    assert list(found) == ["forgetting=off", "caution=0", "ingredients=off", *CLOSED, "attention=self"]
    assert found["caution=0"].effect == "the gate 'caution' is 0"
    whole = hidden(model)
    assert all((hidden(altered(model, each)) - whole).abs().max() > 1e-6 for each in found.values())


def test_a_reset_model_remembers_the_last_tokens_alone():
    model = loading.load("gated-deltanet-nano")
    recent, rng = Recent(model, 300), np.random.default_rng(0)
    old, late = rng.integers(1, 4096, (2, 500)), rng.integers(1, 4096, (1, 300))
    text = np.concatenate([old, late.repeat(2, 0)], 1).astype(np.int32)
    pieces = recent.start(2)
    for part in np.split(text, [1, 200, 650], 1):
        pieces = recent.feed(pieces, part)
    assert np.array_equal(pieces["tokens"], late.repeat(2, 0))
    question = model.tokenizer.encode("Where is Mary?")
    wanted = model.answer(model.feed(model.start(1), late.astype(np.int32)), question, 5)
    assert [recent.answer(recent.row(pieces, i), question, 5) for i in range(2)] == [wanted, wanted]
    assert np.array_equal(recent.unpack(recent.pack(pieces))["tokens"], pieces["tokens"])
    assert recent.state_bytes(pieces) == 4 * 300 and recent.name == "gated-deltanet-nano;reset=300"


def test_a_reset_model_keeps_what_a_chat_template_puts_before_the_prompt():
    class Reader(Model):
        name, tokenizer, wrap = "reader", embedded(), ((901, 902), (903,))

        def start(self, batch):
            return {"read": np.zeros((batch, 0), np.int32)}

        def feed(self, state, tokens):
            return {"read": np.concatenate([state["read"], tokens], 1)}

        def answer(self, state, question, max_tokens, stop=("\n",)):
            return " ".join(map(str, [*state["read"][0], *question]))

    recent = Recent(Reader(), 3)
    assert recent.wrap == Reader.wrap
    stream = np.array([[901, 902, 1, 2, 3, 4, 5]], np.int32)
    for cuts in ([], [1], [1, 2, 3], [4, 6]):
        state = recent.start(1)
        for part in np.split(stream, cuts, 1):
            state = recent.feed(state, part)
        assert recent.answer(state, [7, 903], 1) == "901 902 3 4 5 7 903"
