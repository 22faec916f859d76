"""The transformers model: the same numbers as the Decoder, its state as the cache, files that come back bit for bit."""

import copy
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from typer.testing import CliRunner

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models import causal_lm, loading, specs
from atlas_bench.models.causal_lm import AtlasBenchConfig, AtlasBenchForCausalLM, StateCache
from atlas_bench.models.placement import PLACEMENTS
from atlas_bench.models.tokenizer import embedded
from tests.marks import sweep

DOCS = Path(__file__).parents[2] / "docs" / "transformers.md"
SMALL = {"d_model": 32, "n_heads": 2, "vocab_size": 64}
ARCHITECTURES = {
    **{name: {"memory": name} for name in registry.MEMORIES},
    **{f"{name} placement": {"memory": "gated-deltanet", "placement": name} for name in PLACEMENTS},
    "chunked memory": {"memory": "titans", "memory_options": {"chunk_size": 16}},
    "persistent tokens": {"memory": "gated-deltanet", "n_persistent": 3},
    "full attention": {"attention_window": 0},
}
SOME = ["none", "gated-deltanet", "titans", "mag placement", "full attention"]


def make(name, dtype=torch.float64):
    """Weights at which every part matters and gates are now open, now shut; a new model's outputs are zeros."""
    torch.manual_seed(0)
    model = AtlasBenchForCausalLM(AtlasBenchConfig(**SMALL, **ARCHITECTURES[name])).to(dtype).eval()
    with torch.no_grad():
        for key, x in model.named_parameters():
            if key.endswith(("out.weight", "down.weight", "norm.weight", "w1", "bias")):
                x.normal_(std=0.3)
            if "gate.write" in key:
                x.normal_(std=0.3) if "weight" in key else x.fill_(-3.0)
    return model


def ids(batch=1, length=20, seed=0):
    return torch.randint(1, SMALL["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(seed))


def greedy(model, tokens, n):
    """n tokens by the bare Decoder."""
    with torch.no_grad():
        hidden, state = model.decoder(tokens)
        said = []
        for _ in range(n):
            said.append(model.decoder.logits(hidden[:, -1]).argmax(-1, keepdim=True))
            hidden, state = model.decoder(said[-1], state)
    return torch.cat([tokens, *said], 1)


def state_bytes(cache):
    return sum(x.nbytes for layer in cache.state for part in layer.values() for x in part.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_saved_model_comes_back_bit_for_bit(name, tmp_path):
    """Buffers too: transformers leaves those empty that no file holds."""
    model = make(name, torch.float32)
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).architecture() == model.config.architecture()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    for of in ("state_dict", "named_buffers"):
        old, new = dict(getattr(model, of)()), dict(getattr(again, of)())
        assert old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)
    with torch.no_grad():
        assert torch.equal(model(ids()).logits, again(ids()).logits)


def test_initialisation_is_the_decoders_own():
    torch.manual_seed(1)
    model = AtlasBenchForCausalLM(AtlasBenchConfig(**SMALL, memory="gated-deltanet"))
    torch.manual_seed(1)
    decoder = type(model.decoder)(model.config.architecture())
    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), decoder.parameters(), strict=True))


@sweep(
    "name",
    ["none", "gated-deltanet", "mag placement", "mac placement", "full attention"],
    quick=["gated-deltanet", "full attention"],
)
def test_a_stream_in_two_calls_is_one_call(name):
    model, tokens = make(name), ids(length=5000)
    with torch.no_grad():
        whole = model(tokens)
        first = model(tokens[:, :3001])
        second = model(tokens[:, 3001:], cache=first[causal_lm.CACHE])
    assert (torch.cat([first.logits, second.logits], 1) - whole.logits).abs().max() < 1e-8
    assert second[causal_lm.CACHE] is first[causal_lm.CACHE] and second[causal_lm.CACHE].get_seq_length() == 5000


def test_the_cache_does_not_grow_and_a_copy_is_a_fork():
    model = make("titans")
    with torch.no_grad():
        cache = model(ids(length=10))[causal_lm.CACHE]
        small, fork = state_bytes(cache), copy.copy(cache)
        model(ids(length=500, seed=1), cache=cache)
        assert state_bytes(cache) == small and (fork.length, cache.length) == (10, 510)
        asked = model(ids(length=3), cache=fork).logits
        whole = model(torch.cat([ids(length=10), ids(length=3)], 1)).logits
    assert (asked - whole[:, 10:]).abs().max() < 1e-9


@pytest.mark.parametrize("name", SOME)
def test_generate_is_the_decoders_greedy_choice(name):
    model, tokens = make(name), ids(batch=2)
    expected = greedy(model, tokens, 12)
    assert torch.equal(model.generate(tokens, max_new_tokens=12, do_sample=False), expected)
    assert torch.equal(model.generate(tokens, max_new_tokens=12, do_sample=False, use_cache=False), expected)
    chunked = model.generate(tokens, max_new_tokens=12, cache=StateCache(), prefill_chunk_size=7)
    assert torch.equal(chunked, expected)


def logits_of_generate(model, tokens, n, **options):
    """Logits [n, vocab] from which generate() chose each new token, and those of reading everything anew."""
    said = model.generate(
        tokens, max_new_tokens=n, min_new_tokens=n, do_sample=False, output_logits=True, return_dict_in_generate=True,
        **options,
    )  # fmt: skip
    with torch.no_grad():
        whole = torch.cat(
            [model(said.sequences[:, :end]).logits[:, -1] for end in range(len(tokens[0]), len(tokens[0]) + n)]
        )
    return torch.cat(said.logits), whole


@sweep("name", ARCHITECTURES, quick=SOME)
def test_every_generated_token_comes_from_all_that_was_read(name):
    """Logits, not texts: a model that loses its cache after the first new token often says the same word."""
    model, tokens = make(name), ids()
    chosen, whole = logits_of_generate(model, tokens, 20)
    assert (chosen - whole).abs().max() < 1e-6  # generate() hands logits out in float32
    if name == "gated-deltanet":  # and the test would see it
        model.forward = partial(forget, model.forward)
        chosen, whole = logits_of_generate(model, tokens, 20)
        assert (chosen - whole).abs().max() > 0.01


def forget(forward, input_ids, *args, **options):
    """A forward() that swallows its cache."""
    return forward(input_ids, *args, **{name: x for name, x in options.items() if name not in causal_lm.CACHE_NAMES})


@pytest.mark.parametrize("name", sorted(set(specs.names()) - set(registry.MODELS)))
def test_embedded_models_generate_from_all_that_was_read(name):
    model, tokenizer = causal_lm.from_atlas_bench(name), causal_lm.tokenizer()
    tokens = tokenizer(
        "Mary went to the garden. It rained. John moved to the office. Where is Mary?", return_tensors="pt"
    )
    chosen, whole = logits_of_generate(model, tokens.input_ids, 20)
    assert (chosen - whole).abs().max() < 1e-3  # float32


@pytest.mark.parametrize("name", causal_lm.CACHE_NAMES)
def test_the_cache_goes_by_both_of_its_names(name):
    model, tokens = make("gated-deltanet"), ids(length=40)
    with torch.no_grad():
        cache = StateCache()
        model(tokens[:, :30], **{name: cache})
        rest = model(tokens[:, 30:], **{name: copy.copy(cache)}).logits
        assert (rest - model(tokens).logits[:, 30:]).abs().max() < 1e-9
    assert torch.equal(model.generate(tokens, **{name: cache}, max_new_tokens=5), greedy(model, tokens, 5))


@pytest.mark.parametrize("name", ["cache_params", "inputs_embeds", "caches", "token_type_ids"])
def test_arguments_without_effect_are_refused(name):
    model = make("gated-deltanet")
    with pytest.raises(UserError, match=f"no argument '{name}'"):
        model(ids(), **{name: torch.zeros(1)})
    model(ids(), **{name: None})  # as transformers' callers pass what they do not use
    with pytest.raises(UserError, match="Give one"):
        model(ids(), cache=StateCache(), past_key_values=StateCache())


def test_generate_samples_and_searches_beams():
    model, tokens = make("gated-deltanet"), ids(batch=2)
    options = {"max_new_tokens": 8, "do_sample": True, "num_return_sequences": 3}
    torch.manual_seed(0)
    first = model.generate(tokens, **options)
    torch.manual_seed(0)
    assert torch.equal(first, model.generate(tokens, **options)) and first.shape == (6, 28)
    assert len(first.unique(dim=0)) > 2
    tokens = ids(batch=4)
    options = {"max_new_tokens": 20, "num_beams": 6, "do_sample": False}  # with fewer of any, no beams cross
    beams = model.generate(tokens, **options)
    assert torch.equal(beams, model.generate(tokens, use_cache=False, **options))
    assert not torch.equal(beams, greedy(model, tokens, 20))


def test_generate_goes_on_from_a_cache():
    model, tokens = make("gated-deltanet"), ids(length=40)
    with torch.no_grad():
        cache = model(tokens[:, :30])[causal_lm.CACHE]
    expected, new = greedy(model, tokens, 5), tokens[:, 30:]
    whole = model.generate(tokens, cache=copy.copy(cache), max_new_tokens=5)
    assert torch.equal(whole, expected)
    mask = torch.ones(1, 40, dtype=torch.bool)
    alone = model.generate(new, cache=copy.copy(cache), attention_mask=mask, max_new_tokens=5)
    assert torch.equal(alone, expected[:, 30:])
    with pytest.raises(UserError, match=r"10 tokens and a cache that has read 30.*torch\.ones\(1, 40\)"):
        model.generate(new, cache=cache, max_new_tokens=5)


@pytest.mark.parametrize("name", ["none", "gated-deltanet", "titans", "mag placement"])
def test_padding_is_skipped(name):
    model, short, long = make(name), ids(length=12, seed=1), ids(length=20, seed=2)
    batch = torch.cat([F.pad(short, (8, 0)), long])
    mask = torch.ones_like(batch)
    mask[0, :8] = 0
    with torch.no_grad():
        left, right = model(batch, mask), model(torch.cat([F.pad(short, (0, 8)), long]), mask.flip(1))
        alone = [model(row) for row in (short, long)]
    assert (left.logits[0, 8:] - alone[0].logits[0]).abs().max() < 1e-9
    assert (right.logits[0, :12] - alone[0].logits[0]).abs().max() < 1e-9
    assert (left.logits[1] - alone[1].logits[0]).abs().max() < 1e-9
    made = model.generate(batch, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert torch.equal(made[0, 8:], greedy(model, short, 6)[0]) and torch.equal(made[1], greedy(model, long, 6)[0])


@pytest.mark.parametrize("name", ["full attention", "mac placement", "chunked memory"])
def test_a_state_with_one_place_for_all_rows_refuses_ragged_padding(name):
    model, mask = make(name), torch.ones(2, 20, dtype=torch.long)
    mask[0, :8] = 0
    with pytest.raises(UserError, match="one place of the stream"):
        model(ids(batch=2), mask)
    with torch.no_grad():
        logits = model(ids(batch=2), mask, use_cache=False).logits
        assert (logits[0, 8:] - model(ids(batch=2)[:1, 8:]).logits[0]).abs().max() < 1e-9


def test_what_a_state_cannot_do_is_refused():
    model = make("gated-deltanet")
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[0, -3:] = 0
    with pytest.raises(UserError, match="padding_side = 'left'"):
        model.generate(ids(batch=2), attention_mask=mask, max_new_tokens=2)
    with pytest.raises(UserError, match="DynamicCache"):
        model(ids(), cache=DynamicCache())
    with pytest.raises(UserError, match="holds 1 streams and input_ids 2"):
        model(ids(batch=2), cache=model(ids())[causal_lm.CACHE])
    with pytest.raises(UserError, match="no argument 'output_hidden_states'"):
        model(ids(), output_hidden_states=True)
    with pytest.raises(ValueError, match="stateful"):  # transformers' own refusal
        model.generate(ids(), prompt_lookup_num_tokens=3, max_new_tokens=4)


def test_labels_are_shifted_and_a_step_learns():
    model, tokens = make("gated-deltanet", torch.float32).train(), ids(batch=2, length=50)
    labels = tokens.clone()
    labels[:, :10] = -100
    output = model(tokens, labels=labels)
    expected = F.cross_entropy(output.logits[:, 9:-1].flatten(0, 1), tokens[:, 10:].flatten())
    assert torch.allclose(output.loss, expected) and causal_lm.CACHE not in output
    loss, logits = model(tokens, labels=labels, return_dict=False)
    assert torch.equal(loss, output.loss) and torch.equal(logits, output.logits)
    output.loss.backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in model.parameters())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        loss = model(tokens, labels=labels).loss
        loss.backward()
        optimiser.step()
    assert loss < 0.7 * output.loss


def test_logits_to_keep_are_those_asked_for():
    model = make("none")
    with torch.no_grad():
        whole = model(ids()).logits
        for keep, expected in [(1, whole[:, -1:]), (3, whole[:, -3:]), (torch.tensor([2, 5]), whole[:, [2, 5]])]:
            assert torch.allclose(model(ids(), logits_to_keep=keep).logits, expected, atol=1e-12)


@pytest.mark.parametrize("mean_resizing", [True, False])
def test_the_vocabulary_can_grow(mean_resizing, tmp_path):
    model = make("gated-deltanet", torch.float32)
    with torch.no_grad():
        before = model(ids()).logits
        model.resize_token_embeddings(SMALL["vocab_size"] + 3, mean_resizing=mean_resizing)
        after = model(ids()).logits
    assert after.shape[-1] == before.shape[-1] + 3 and torch.allclose(after[..., :-3], before, atol=1e-5)
    assert 0 < model.get_input_embeddings().weight[-3:].std() < 1
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ids()).logits, model(ids()).logits)


def test_missing_weights_are_refused(tmp_path):
    make("gated-deltanet").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["decoder.blocks.1.memory.key.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lacks weight of a Linear"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_the_tokenizer_gives_the_same_ids(tmp_path):
    causal_lm.tokenizer().save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Where is John? ", "  two  spaces , and\n\nlines", "naïve Ωμέγα 北京 🙂", ""):
        expected = embedded().encode(text)
        assert again(text).input_ids == expected and again.decode(expected) == causal_lm.tokenizer().decode(expected)
        assert again.decode(expected, skip_special_tokens=True) == embedded().decode(expected)
    # transformers' convention is to take it for the token; in a benchmark's context it is text
    assert 0 in again("an <|end|> inside").input_ids and 0 not in embedded().encode("an <|end|> inside")
    assert embedded().decode(embedded().encode("an <|end|> inside")) == "an <|end|> inside"


def test_an_embedded_model_answers_as_it_does_for_the_runner():
    model, tokenizer = causal_lm.from_atlas_bench("gated-deltanet-nano"), causal_lm.tokenizer()
    source = loading.load("gated-deltanet-nano")
    context, question = tokenizer("Mary went to the hallway. " * 30, return_tensors="pt").input_ids, " Where is Mary?"
    state = source.feed(source.start(1), context.numpy())
    expected = source.answer(state, source.tokenizer.encode(question), 8)
    tokens = torch.cat([context, torch.tensor([source.tokenizer.encode(question)])], 1)
    said = model.generate(tokens, max_new_tokens=8)[0, tokens.shape[1] :]
    assert tokenizer.decode(said).strip() == expected == "hallway" and said[-1] == source.newline
    assert all(x.requires_grad for x in model.parameters())


def test_export_and_the_examples_of_the_docs(tmp_path, monkeypatch, capsys):
    from atlas_bench.cli.app import app

    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text()
    command = re.search(r"```bash\natlas-bench (.*?)\s*(#.*)?\n```", text)[1]
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0 and "model.safetensors" in done.stdout and not done.stderr
    printed = re.findall(r"print\(.*\)  # (.*)", text)
    capsys.readouterr()
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), {})
    assert capsys.readouterr().out.splitlines() == printed and len(printed) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gated-deltanet-nano", "full"], ["'full'", "nothing is overwritten"]),
        (["gated-deltanet-nano", "full/file"], ["'full/file'"]),
        (["gated-deltanet-nano", "/proc/nowhere"], ["'/proc/nowhere'", "cannot be written"]),
        (["oracle", "new"], ["'oracle'", "control"]),
        (["atlas-nan", "new"], ["'atlas-nan'", "Did you mean 'atlas-nano'?"]),
    ],
)
def test_export_refuses_in_one_message_and_writes_nothing(words, said, tmp_path, monkeypatch):
    from atlas_bench.cli.app import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    result = CliRunner().invoke(app, ["export", *words])
    assert result.exit_code == 2 and not result.stdout and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1 and all(part in result.stderr for part in said), result.stderr
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full"]


def test_only_this_part_imports_transformers():
    ours = "atlas_bench.cli.app, atlas_bench.running.runner, atlas_bench.models.loading, atlas_bench.models.sizes"
    code = f"import sys, {ours}; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
