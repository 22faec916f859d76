"""`import=fla`: an installed package brings an architecture; nothing else is imported, and nothing unasked."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from atlas_bench.errors import UserError
from atlas_bench.models.huggingface import cache as hf_cache
from atlas_bench.models.huggingface import load as hf
from atlas_bench.models.huggingface.packages import PACKAGES, bring
from tests.models.huggingface import tiny

# what a package of the field does: it registers its architecture, whose cache is a class of its own
SOURCE = """
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

class SumConfig(PretrainedConfig):
    model_type = "running_sum"
    num_hidden_layers = 1

class Cache:
    def __init__(self, total):
        self.states = [{"total": total}]

class SumForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = SumConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, 8)
        self.head = torch.nn.Linear(8, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids=None, past_key_values=None, use_cache=None, **options):
        x = self.embed(input_ids).cumsum(1)
        if past_key_values is not None:
            x = x + past_key_values.states[0]["total"]
            past_key_values.states[0]["total"].copy_(x[:, -1:])   # in place, as kernels do it
        else:
            past_key_values = Cache(x[:, -1:].clone())
        return CausalLMOutputWithPast(logits=self.head(x.tanh()), past_key_values=past_key_values)

AutoConfig.register("running_sum", SumConfig)
AutoModelForCausalLM.register(SumConfig, SumForCausalLM)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package `fla` with what pip writes of it, on the path; the folder of a model whose architecture it brings."""
    site = tmp_path / "site"
    (site / "fla").mkdir(parents=True)
    (site / "fla" / "__init__.py").write_text(SOURCE)
    about = site / "flash_linear_attention-0.6.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: flash-linear-attention\nVersion: 0.6.0\n")
    (about / "top_level.txt").write_text("fla\n")
    (about / "RECORD").write_text("fla/__init__.py,,\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "fla", raising=False)
    yield site
    sys.modules.pop("fla", None)


@pytest.fixture
def foreign(tmp_path):
    """A folder of a model whose architecture transformers does not know."""
    folder = tiny.save(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such_sum"}))
    return folder


def test_options_are_written_behind_a_colon_or_a_semicolon():
    for spec in ("hf:a/b:import=fla,chat=false", "hf:a/b;import=fla,chat=false", "hf:a/b;import=fla;chat=false"):
        assert hf.parse(spec) == ("a/b", {"import": "fla", "chat": False})


@pytest.mark.parametrize("name", ["os", "./fla", "fla.models", "/tmp/fla.py", "Fla"])
def test_only_packages_of_the_list_are_imported(name):
    with pytest.raises(UserError, match="Write fla or mamba_ssm, a package that is installed"):
        hf.load(f"hf:a/b:import={name}")


def test_an_unknown_architecture_says_what_to_install(foreign):
    with pytest.raises(UserError, match=r"does not know its architecture 'no_such_sum'.*:import=fla") as told:
        hf.load(f"hf:{foreign}")
    assert "pip install --upgrade" not in str(told.value)


def test_a_package_that_is_not_installed_is_one_message(monkeypatch):
    monkeypatch.setattr("atlas_bench.models.huggingface.packages.packages_distributions", dict)
    for name, package in PACKAGES.items():
        with pytest.raises(UserError, match=f"{package} is not installed. Type: pip install {package}"):
            bring(name)


def test_a_folder_of_that_name_is_not_taken_for_the_package(installed, tmp_path, monkeypatch):
    (tmp_path / "here" / "fla").mkdir(parents=True)
    trace = tmp_path / "ran"
    (tmp_path / "here" / "fla" / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend("")
    with pytest.raises(UserError, match="of the working folder would be imported in place"):
        bring("fla")
    assert not trace.exists()


def test_a_package_that_fails_as_it_is_imported_is_one_message(installed):
    (installed / "fla" / "__init__.py").write_text("raise RuntimeError('no GPU')\n")
    with pytest.raises(UserError, match=r"cannot be imported \(RuntimeError: no GPU\)"):
        bring("fla")


def test_a_model_of_the_package_is_read_in_parts_as_at_once(installed, tmp_path):
    bring("fla")
    torch.manual_seed(0)
    from atlas_bench.models import causal_lm

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("running_sum", vocab_size=4096))
    model.save_pretrained(tmp_path / "model")
    causal_lm.tokenizer().save_pretrained(tmp_path / "model")
    read = hf.load(f"hf:{tmp_path / 'model'};import=fla")
    assert read.name == f"hf:{tmp_path / 'model'}"  # the package decides no answer that the weights do not
    state = read.feed(read.start(1), torch.tensor([[5, 6, 7]]).numpy())
    before = {path: x.clone() for path, x in hf_cache.tensors(state.cache).items()}
    read.answer(state, read.tokenizer.encode(" Where is Mary?"), 3)
    after = hf_cache.tensors(state.cache)
    assert before and all(torch.equal(after[path], x) for path, x in before.items())
    assert read.state_bytes(state) == 8 * 4
