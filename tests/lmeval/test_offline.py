"""lm-eval's own runner on one of its bundled tasks that needs no download."""

from __future__ import annotations

from pathlib import Path

import lm_eval
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from atlas_bench.lmeval.model import AtlasLM
from atlas_bench.models import causal_lm
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.tokenizer import embedded


@pytest.mark.slow
def test_a_bundled_task_offline_gets_our_models_answers_and_accuracy(tmp_path, monkeypatch):
    """lm-eval's ruler_fwe makes its own data; the model alone gives the same answers and the same accuracy."""
    monkeypatch.setattr("nltk.download", lambda name: True)  # of sentences for other tasks of that folder
    causal_lm.tokenizer().save_pretrained(tmp_path)
    manager = TaskManager(
        include_defaults=False,
        include_path=Path(lm_eval.__file__).parent / "tasks" / "ruler",
        metadata={"tokenizer": str(tmp_path), "max_seq_lengths": [300]},
    )
    torch.manual_seed(0)
    decoder = Decoder(Config(memory="gated-deltanet", d_model=32, n_heads=2))
    # an untrained model says much, trained ones nothing
    model = LanguageModel("untrained", decoder, embedded(), {}, matmul_precision="fp32")
    results = simple_evaluate(AtlasLM(model), tasks=["ruler_fwe"], limit=6, bootstrap_iters=0, task_manager=manager)
    shares = []
    for sample in results["samples"]["ruler_fwe"]:
        tokens = model.tokenizer.encode(sample["arguments"][0][0])
        answer = model.answer(model.start(1), tokens, 50, ())
        assert sample["filtered_resps"] == [answer] and answer
        shares.append(sum(word in answer.lower() for word in sample["doc"]["outputs"]) / 3)
    assert results["results"]["ruler_fwe"]["300,none"] == sum(shares) / 6
