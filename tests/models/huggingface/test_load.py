"""`hf:NAME_OR_PATH:option=value,...`: what is loaded, what is refused, and whole cells of 64K tokens."""

import json
import shutil
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from atlas_bench.errors import UserError
from atlas_bench.models import causal_lm, loading
from atlas_bench.models.huggingface import load as hf
from atlas_bench.results.record import timeless
from atlas_bench.running import consistency, runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from tests.marks import sweep
from tests.models.huggingface import tiny
from tests.models.huggingface.test_tokenizer import CHAT, llama_like


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture
def copied(llama, tmp_path):
    return shutil.copytree(llama, tmp_path / "copy")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("hf:gpt2", ("gpt2", {})),
        ("hf:Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", {})),
        ("hf:./a.b/c-1.5:chat=false,dtype=bfloat16", ("./a.b/c-1.5", {"chat": False, "dtype": "bfloat16"})),
        ("hf:a/b:revision=1234567,context_limit=32768", ("a/b", {"revision": "1234567", "context_limit": 32768})),
        (r"hf:C:\models\x:rope=long", (r"C:\models\x", {"rope": "long"})),
        ("hf:a/b:trust_remote_code=True", ("a/b", {"trust_remote_code": True})),
    ],
)
def test_a_written_model_is_name_and_options(spec, expected):
    assert hf.parse(spec) == expected


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hf:", "names nothing"),
        ("hf:a/b:dtyp=float32", "Did you mean 'dtype'"),
        ("hf:a/b:dtype=float8", "Write float32, bfloat16, float16"),
        ("hf:a/b:chat=1", "chat is '1'. Write true or false"),
        ("hf:a/b:chat", "'chat' is not option=value"),
        ("hf:a/b:context_limit=32K", "context_limit is '32K'. Write a number of tokens"),
        ("hf:a/b:context_limit=0", "context_limit is '0'"),
        ("hf:./nowhere", "folder './nowhere' does not exist"),
        ("hf:a/b/c", "folder 'a/b/c' does not exist"),
    ],
)
def test_what_is_written_wrong_is_told(spec, said):
    with pytest.raises(UserError, match=said):
        hf.load(spec)


def test_a_name_that_cannot_be_had_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"config of model 'nobody/nothing' cannot be loaded.*HF_HUB_OFFLINE"):
        hf.load("hf:nobody/nothing")


def broken(folder, how):
    weights = folder / "model.safetensors"
    if how == "no config":
        (folder / "config.json").unlink()
    elif how == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    elif how in ("unknown architecture", "no causal model"):
        config = json.loads((folder / "config.json").read_text())
        kind = "nonsense" if how == "unknown architecture" else "t5"
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    elif how == "a billion layers":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    elif how == "no text":
        (folder / "config.json").write_bytes(b"\xff\xfe" + b"[" * 10_000)
    elif how == "pickle":
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    elif how == "half the weights":
        kept = {name: x for name, x in load_file(weights).items() if "layers.1.mlp" not in name}
        save_file(kept, weights, metadata={"format": "pt"})
    elif how == "corrupt":
        weights.write_bytes(weights.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no config", "config of model"),
        ("no tokenizer", "tokenizer of model"),
        ("unknown architecture", "nonsense"),
        ("no causal model", "AutoModelForCausalLM"),
        ("a billion layers", "states 1000000000 layers"),
        ("no text", "config of model"),
        ("pickle", "a pickle can run code"),
        ("half the weights", r"lack model\.layers\.1\.mlp\.down_proj\.weight \(and 2 more\)"),
        ("corrupt", "weights of model"),
    ],
)
def test_a_folder_that_is_no_model_is_told(copied, how, said):
    broken(copied, how)
    with pytest.raises(UserError, match=said) as told:
        hf.load(f"hf:{copied}")
    assert str(copied) in str(told.value) and "\n" not in str(told.value)


def test_a_repositorys_code_is_run_only_where_that_is_written(copied):
    config = json.loads((copied / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnLM"}}
    (copied / "config.json").write_text(json.dumps(config | own))
    trace = copied / "ran"
    (copied / "own.py").write_text(
        f"from transformers import LlamaConfig, LlamaForCausalLM\nopen({str(trace)!r}, 'w').close()\n"
        "class Own(LlamaConfig):\n    model_type = 'own'\nclass OwnLM(LlamaForCausalLM):\n    config_class = Own\n"
    )
    with pytest.raises(UserError, match="read it, then add trust_remote_code=true"):
        hf.load(f"hf:{copied}")
    assert not trace.exists()
    model = hf.load(f"hf:{copied}:trust_remote_code=true")
    assert trace.exists() and type(model.model).__name__ == "OwnLM" and model.name == f"hf:{copied}"


def test_facts_and_names(llama):
    model = hf.load(f"hf:{llama}:dtype=bfloat16,chat=false,attention=eager,context_limit=300")
    assert model.name == f"hf:{llama}:chat=false,dtype=bfloat16"  # less what changes no answer
    facts = model.facts()
    assert facts["products"] == "bf16" and "(eager)" in facts["kernel"] and facts["context_limit"] == 300
    assert facts["parameters"] == sum(x.numel() for x in model.model.parameters()) and facts["device"] == "cpu"
    assert (facts["memory"], facts["chat_template"], facts["config"]["hidden_size"]) == ("llama", "none", 32)
    assert {x.dtype for x in model.model.parameters()} == {torch.bfloat16}
    assert hf.load(f"hf:{llama}", matmul_precision="bf16").facts()["products"] == "bf16"
    assert hf.load(f"hf:{llama}").facts()["products"] == "fp32"


def test_the_trial_in_float32_leaves_the_weights_as_they_were(llama):
    mine = hf.load(f"hf:{llama}:dtype=bfloat16").model.state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(mine[name], x) and mine[name].dtype == x.dtype for name, x in theirs.items())


def test_weights_are_named_by_their_bytes(llama, copied, monkeypatch):
    first = hf.load(f"hf:{llama}").weights_hash
    assert hf.load(f"hf:{copied}").weights_hash == first and len(first) == 16
    files = [copied / "config.json", copied / "model.safetensors"]
    monkeypatch.setattr(hf, "PIECE", 512)
    sampled = hf.weights_hash(files)
    assert sampled == hf.weights_hash([llama / path.name for path in files]) != first
    weights = load_file(files[1])
    save_file({name: x + 1e-3 for name, x in weights.items()}, files[1], metadata={"format": "pt"})
    assert hf.weights_hash(files) != sampled


def test_a_chat_template_is_the_default_where_there_is_one(tmp_path, llama):
    inner = causal_lm.tokenizer()
    inner.chat_template = CHAT
    where = tiny.save(tmp_path, "llama", tokenizer=inner)
    chatting, bare = hf.load(f"hf:{where}"), hf.load(f"hf:{where}:chat=false")
    assert chatting.wrap[0] and chatting.wrap[1] and bare.wrap == ((), ())
    assert len(chatting.facts()["chat_template"]) == 16 and bare.facts()["chat_template"] == "none"
    with pytest.raises(UserError, match="no chat template"):
        hf.load(f"hf:{llama}:chat=true")


def test_a_first_token_is_part_of_the_prompt(tmp_path):
    where = tiny.save(tmp_path, "llama", vocab_size=300, tokenizer=llama_like())
    assert hf.load(f"hf:{where}").wrap == ((0,), ())


def test_a_model_that_export_has_written_is_the_model(tmp_path):
    causal_lm.export("gated-deltanet-nano", tmp_path / "model")
    theirs = hf.load(f"hf:{tmp_path / 'model'}")
    mine = loading.load("gated-deltanet-nano", matmul_precision="fp32")
    text = "Mary went to the hallway. " * 30 + "John went to the garden. The end."
    tokens = np.array([mine.tokenizer.encode(text)], dtype=np.int32)
    (a, said, _), (b, wanted, _) = theirs.logprobs(theirs.start(1), tokens), mine.logprobs(mine.start(1), tokens)
    assert np.abs(said - wanted).max() < 1e-3 and theirs.state_bytes(a) == mine.state_bytes(b)
    question = mine.tokenizer.encode(" Where is Mary?")
    assert theirs.answer(a, question, 8) == mine.answer(b, question, 8) == "hallway"
    assert theirs.supports(10**9) is None


class Stopping:
    """Stops the process's work after so many blocks, as Ctrl-C does."""

    def __init__(self, model, blocks):
        self.model, self.blocks = model, blocks

    def __getattr__(self, name):
        return getattr(self.model, name)

    def feed(self, state, tokens):
        self.blocks -= 1
        if self.blocks < 0:
            raise KeyboardInterrupt
        return self.model.feed(state, tokens)


def run(model, folder, task, subset, length, samples, **settings):
    cells = [Cell(task, subset, length, model.name, samples=samples)]
    return runner.run(cells, {model.name: model}, folder, runner.Settings(**settings), Progress(quiet=True))[0]


@sweep(
    "dtype, kind",
    product(["float32", "bfloat16"], ["llama", "mamba", "qwen3_next"]),
    quick=[("float32", "llama"), ("float32", "mamba")],
)
def test_a_stopped_cell_goes_on_to_the_same_record(kind, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(consistency, "fault", lambda evaluation, batch: None)  # fed blocks are counted
    tiny.save(tmp_path / "model", kind, max_position_embeddings=4096)
    model = hf.load(f"hf:{tmp_path / 'model'}:dtype={dtype}")
    settings = {"block": 256, "batch": 2, "checkpoint_tokens": 500}
    whole = run(model, tmp_path / "whole", "babilong", "qa1", 2000, 3, **settings)
    with pytest.raises(runner.Interrupted):
        run(Stopping(model, 5), tmp_path / "cut", "babilong", "qa1", 2000, 3, **settings)
    resumed = run(model, tmp_path / "cut", "babilong", "qa1", 2000, 3, **settings)
    assert whole.status == "ok" and resumed.resumed and len(resumed.answers) == 3
    assert timeless(resumed) == timeless(whole)


def test_beyond_the_context_limit_a_cell_is_unsupported(llama, tmp_path):
    record = run(hf.load(f"hf:{llama}"), tmp_path, "babilong", "qa1", 1000, 1)
    assert record.status == "unsupported" and "context limit" in record.reason and record.tokens_read is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("llama", {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "head_dim": 8}),
        ("mamba", {"hidden_size": 16, "intermediate_size": 16}),
    ],
)
def test_niah_at_64k(kind, sizes, tmp_path):
    """Two questions on one context of 64 000 tokens; what untrained models answer is noise, how they read is real."""
    tiny.save(tmp_path / "model", kind, num_hidden_layers=1, max_position_embeddings=65536, **sizes)
    model = hf.load(f"hf:{tmp_path / 'model'}")
    record = run(model, tmp_path, "niah", "multi", 64_000, 2, block=4096)
    assert record.status == "ok", record.reason
    assert len(record.answers) == 2 and record.length == 64_000
    per_token = 2 * 8 * 4  # a key and a value of 8 float32 numbers
    assert record.state_bytes >= 63_000 * per_token if kind == "llama" else record.state_bytes < 1000
    assert np.isfinite(record.tokens_per_second)
