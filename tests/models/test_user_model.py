"""Models of a user's own file, `--model py:FILE.py:FOLDER`, and TorchModel, of which the example is made."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from atlas_bench.cli.app import app
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.models.tokenizer import embedded

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_model.py"
TOKENS = np.random.default_rng(0).integers(1, 4096, (2, 50)).astype(np.int32)


def save(folder: Path, seed: int = 0) -> Path:
    """Random weights of the example's model."""
    found = importlib.util.spec_from_file_location("my_model", EXAMPLE)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    save_file(module.GatedRecurrence(embedded().vocab_size, 8).state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def model(tmp_path):
    return loading.load(f"py:{EXAMPLE}:{save(tmp_path / 'weights')}")


@pytest.mark.parametrize("cuts", [[1], [7, 20, 49], list(range(1, 50))])
def test_reading_in_parts_is_reading_at_once(model, cuts):
    whole = model.feed(model.start(2), TOKENS)
    parts = model.start(2)
    for part in np.split(TOKENS, cuts, 1):
        parts = model.feed(parts, part)
    assert torch.equal(whole["h"], parts["h"]) and model.state_bytes(whole) == 4 * 8 and model.finite(whole)


def test_answers_and_logprobs_are_those_of_the_logits(model):
    state = model.row(model.feed(model.start(2), TOKENS), 1)
    before = state["h"].clone()
    ids, said, here = torch.tensor([[5, 6]]), [], state
    for _ in range(6):
        logits, here = model.forward(ids, here)
        said.append(int(logits[0, -1].argmax()))
        ids = torch.tensor([[said[-1]]])
    text = model.tokenizer.decode(said).lstrip()
    assert 0 not in said and model.answer(state, [5, 6], 6, stop=()) == text.strip()
    assert model.answer(state, [5, 6], 6, stop=(text[2:4],)) == text[: text.find(text[2:4])].strip()
    after, nats, greedy = model.logprobs(model.start(2), TOKENS)
    logits, expected = model.forward(torch.from_numpy(TOKENS[:, :-1]).long(), model.start(2))
    wanted = torch.from_numpy(TOKENS[:, 1:]).long()
    assert np.allclose(
        nats, -torch.nn.functional.cross_entropy(logits.mT, wanted, reduction="none").detach(), atol=1e-5
    )
    assert np.array_equal(greedy, logits.argmax(-1) == wanted) and torch.equal(after["h"], expected["h"])
    assert torch.equal(state["h"], before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64])
def test_a_packed_state_comes_back_bit_for_bit(model, dtype):
    state = {"h": torch.randn(2, 3, 8).to(dtype), "n": torch.ones(2, dtype=dtype)}
    back = model.unpack(model.pack(state))
    assert all(back[name].dtype == x.dtype and torch.equal(back[name], x) for name, x in state.items())


def test_an_end_and_a_number_that_is_none(model):
    state = model.start(1)
    (first,) = model.tokenizer.encode(model.answer(state, [5], 1, stop=())) or [None]
    model.ends = frozenset(range(4096))
    assert first is None or model.answer(state, [5], 4) == ""
    with pytest.raises(FloatingPointError, match="not finite at token 1"):
        model.answer({"h": torch.full((1, 8), torch.nan)}, [5], 4)
    assert not model.finite({"h": torch.full((1, 8), torch.inf)})


def test_the_command_runs_it_and_other_weights_are_another_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE, "mine.py")
    for seed in (0, 1):
        save(tmp_path / f"w{seed}", seed)
    words = ["run", "babilong:qa1", "--len", "300", "--samples", "2", "--quiet"]
    assert CliRunner().invoke(app, [*words, "--model", "py:mine.py:w0", "--model", "b=py:./mine.py:w1"]).exit_code == 0
    records = [json.loads(line) for line in Path("runs/babilong.jsonl").read_text().splitlines()]
    assert records[0]["model"].startswith("py:mine.py@") and records[0]["model"].endswith(":w0")
    assert records[1]["model"] == "b" and records[1]["model_spec"].endswith(":w1")
    assert {each["status"] for each in records} == {"ok"} and len({each["weights_hash"] for each in records}) == 2
    probe = ["probe", "b=py:./mine.py:w1", "--len", "320", "--samples", "2", "--json", "--quiet"]
    assert list(json.loads(CliRunner().invoke(app, probe).stdout)["alterations"]) == ["reset=80"]
    assert records[0]["memory"] == "gated recurrence" and records[0]["parameters"] == 4096 * 24


@pytest.mark.parametrize(
    ("source", "spec", "said"),
    [
        ("", "py:nowhere.py", "model file 'nowhere.py' is not there"),
        ("", "py:mine.txt", "names no Python file. Write py:FILE.py:FOLDER"),
        ("x = 1", "py:mine.py", "has no function load\\(\\)"),
        ("def load(): return 1", "py:mine.py", "has no name, tokenizer|has no tokenizer"),
        ("def load(folder): return open(folder)", "py:mine.py:gone", "cannot be loaded: FileNotFoundError.*line 1 of"),
        ("def load(): pass", "py:mine.py:x", "cannot be loaded: TypeError"),
        ("1 +", "py:mine.py", "is not Python"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_a_sentence(tmp_path, monkeypatch, source, spec, said):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(source)
    with pytest.raises(UserError, match=said):
        loading.load(spec)
    result = CliRunner().invoke(app, ["run", "babilong:qa1", "--len", "300", "--model", spec])
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("error: ")
