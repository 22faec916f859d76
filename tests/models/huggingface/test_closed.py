"""Hugging Face models taken apart: their recurrent states emptied before a question, and `probe` over them."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from atlas_bench.cli.app import app
from atlas_bench.models.huggingface import cache as hf_cache
from atlas_bench.models.huggingface import load as hf
from atlas_bench.models.huggingface.closed import RECURRENT, Closed, has_memory
from tests.models.huggingface import tiny

TOKENS = np.random.default_rng(0).integers(1, 4096, (1, 60)).astype(np.int32)


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "jamba", "qwen3_next"])
def test_what_is_recurrent_is_empty_when_asked_and_the_rest_stays(tmp_path, kind, monkeypatch):
    model = hf.load(f"hf:{tiny.save(tmp_path / kind, kind)}")
    closed, state = Closed(model), model.feed(model.start(1), TOKENS)
    assert has_memory(model) and closed.name == f"{model.name};memory=closed"
    asked = []

    def silent(self, state, question):
        asked.append(state)
        yield from ()

    monkeypatch.setattr(type(model), "_greedy", silent)
    closed.answer(state, [5, 6], 4)
    (seen,) = asked
    before, after = hf_cache.tensors(state.cache), hf_cache.tensors(seen.cache)
    recurrent = set(filter(RECURRENT.search, before))
    assert recurrent and recurrent < set(before)  # a window of tokens is kept by each of these models
    for path, x in before.items():
        assert bool(x.any()) and torch.equal(after[path], torch.zeros_like(x) if path in recurrent else x)


def test_an_answer_depends_on_the_memory_that_is_closed(tmp_path):
    model = hf.load(f"hf:{tiny.save(tmp_path / 'mamba', 'mamba')}")
    state = model.feed(model.start(1), TOKENS)
    pairs = [(model.answer(state, [n], 8), Closed(model).answer(state, [n], 8)) for n in range(1, 9)]
    assert any(whole != closed for whole, closed in pairs)
    empty = model.start(1)
    assert model.answer(empty, [7, 8], 8) == Closed(model).answer(empty, [7, 8], 8)


@pytest.mark.slow
def test_a_model_of_attention_alone_is_only_reset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "llama", "llama")
    words = ["probe", "small=hf:llama", "--len", "320", "--samples", "2", "--prompt", "official", "--quiet", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found["alterations"]) == ["reset=80"]
    records = [json.loads(line) for line in (tmp_path / "probe" / "babilong.jsonl").read_text().splitlines()]
    assert [(each["model"], each["model_spec"].partition(";")[2]) for each in records] == [
        ("small", ""),
        ("small;reset=80", "reset=80"),
    ]
    assert {each["options"]["prompt"] for each in records} == {"official"}
