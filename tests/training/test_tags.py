"""Answers along a segment in a training step: what they cost, which of them count, and beside questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.lessons import Ask, Segment, Tags
from atlas_bench.tasks.track import TRACK
from atlas_bench.training import examine
from atlas_bench.training.loop import train
from atlas_bench.training.optimizers import Optimizers
from atlas_bench.training.recipe import Recipe
from atlas_bench.training.step import step

STILL = replace(Recipe(), write_cost=0.0, muon_lr=0.0, adam_lr=0.0)  # a step that changes nothing


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Decoder(Config("gated-deltanet", vocab_size=64, d_model=32, n_heads=2))


def segment(rng, *, answers=None, asks=()):
    tokens = rng.integers(0, 64, 10).astype(np.int32)
    tags = None if answers is None else Tags(np.array(answers), scored=np.array(answers) > 9, kind="k")
    return Segment(tokens, tuple(asks), tags=tags)


def figures_of(model, segments):
    return step(Optimizers(model, STILL), segments, None, STILL)[0]


def test_the_loss_is_the_mean_over_all_answers_and_accuracy_over_the_scored(model):
    rng = np.random.default_rng(0)
    answers = [[5, -1, 12, 13, -1, 9, 10, -1, -1, 40], [-1] * 10]
    rows = [segment(rng, answers=each) for each in answers]
    later = [segment(rng, answers=[-1] * 9 + [7]), segment(rng, answers=[11] * 10)]
    figures = figures_of(model, [rows, later])
    with torch.no_grad():
        tokens = torch.from_numpy(np.concatenate([np.stack([s.tokens for s in part]) for part in (rows, later)], 1))
        logits = model.logits(model(tokens.long())[0]).reshape(-1, 64)
    targets = torch.tensor([answers[0] + [-1] * 9 + [7], answers[1] + [11] * 10]).reshape(-1)
    assert figures["loss"] == pytest.approx(float(F.cross_entropy(logits, targets, ignore_index=-1)), rel=1e-4)
    scored = targets > 9
    right = int((logits.argmax(-1) == targets)[scored].sum())
    assert figures["kinds"] == {"k": [right, int(scored.sum())]} and figures["asked"] == int(scored.sum())


def test_a_segment_without_an_answer_costs_nothing(model):
    rng = np.random.default_rng(1)
    figures = figures_of(model, [[segment(rng, answers=[-1] * 10)] * 2])
    assert figures["loss"] == 0 and figures["asked"] == 0 and figures["kinds"] == {}


def test_questions_and_answers_along_a_segment_weigh_the_same_together(model):
    rng = np.random.default_rng(2)
    asked, tagged = segment(rng, asks=[Ask((1, 2), (3,), "q")]), segment(rng, answers=[11] * 10)
    alone = [figures_of(model, [[row, replace(row, asks=(), tags=None)]])["loss"] for row in (asked, tagged)]
    both = figures_of(model, [[asked, tagged]])
    assert both["loss"] == pytest.approx(sum(alone), rel=1e-4)
    assert {kind: n for kind, (_, n) in both["kinds"].items()} == {"q": 1, "k": 10}


@pytest.mark.slow
def test_a_model_learns_a_stack_of_the_recipe_and_is_examined(tmp_path):
    """A tiny one in seconds: from a guess among all tokens to better than chance among the kinds."""
    recipe = Recipe(
        tasks=("track:dyck",), longest=32, first_length=32, segment=32, contexts=8, least_tokens=256,
        curriculum_tokens=12_000, mixed_tokens=3_000, stream_tokens=0, stream_length=32, promote_at=1.0,
        warmup_steps=10, adam_lr=1e-2, muon_lr=0.02, average=0.9,
    )  # fmt: skip
    lessons = TRACK.lessons(["dyck"], embedded(), 0)
    config = Config("gated-deltanet", d_model=32, n_heads=2)
    model, progress = train(config, recipe, lessons.seeded, tmp_path)
    assert progress.kinds["dyck"] > 0.25
    found = examine.accuracy(model, lessons.examinations(), 64)
    assert found["kinds"]["dyck"] == [found["correct"], found["n"]] and found["n"] > 200
    assert found["correct"] / found["n"] > 0.25
