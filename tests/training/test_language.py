"""Language modelling: its lessons, its schedule, and the loss by position on what was held out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import atlas_bench
from atlas_bench import api
from atlas_bench.errors import UserError
from atlas_bench.models import alterations, loading
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora
from atlas_bench.tasks.loss import LOSS
from atlas_bench.training import command, examine
from atlas_bench.training.loop import train
from atlas_bench.training.recipe import language
from tests.training.test_training import trained

PROSE = "The {} ships of the northern fleet went home before the winter storms came. "


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """Two texts to train on, and one to hold out."""
    folder = tmp_path_factory.mktemp("books")
    for name, word, n in (("one", "old", 120), ("two", "new", 120), ("kept", "last", 60)):
        (folder / f"{name}.txt").write_text("".join(PROSE.format(f"{word} {i}") for i in range(n)))
    return folder


@pytest.fixture(scope="module")
def corpus(books, tmp_path_factory):
    return corpora.folder(books, embedded(), exclude=["kept"], cache=tmp_path_factory.mktemp("cache"))


def test_at_every_token_the_next_one_is_to_be_said(corpus):
    lessons = LOSS.lessons(("text",), embedded(), 0, [corpus])
    segments = list(lessons.seeded(5).stream(700, 256))
    assert [len(segment.tokens) for segment in segments] == [256, 256, 188]
    told = np.concatenate([segment.tokens for segment in segments])
    answers = np.concatenate([segment.tags.tokens for segment in segments])
    assert (answers[:-1] == told[1:]).all() and all(segment.free.all() for segment in segments)
    text = embedded().decode(told.tolist())
    assert "northern fleet" in text and "last" not in text
    again = np.concatenate([segment.tokens for segment in lessons.seeded(5).stream(700, 700)])
    assert (again == told).all()


def test_every_context_has_one_length_and_every_stage_its_rates(corpus, tmp_path):
    recipe = replace(language(context=128, batch=3, window=16).within(1500), segment=64, longest=64, first_length=64)
    seen = []
    config = Config("gated-deltanet", d_model=32, n_heads=2)
    lessons = LOSS.lessons(("text",), embedded(), 0, [corpus])
    train(config, recipe, lessons.seeded, tmp_path, report=lambda p: seen.append((p.stage, p.step, p.tokens)))
    assert seen == [
        ("curriculum", 2, 384), ("curriculum", 4, 768), ("mixed", 6, 1152), ("mixed", 8, 1536), ("stream", 10, 1920),
    ]  # fmt: skip


def test_a_segment_spans_attentions_window_and_fills_the_context():
    assert [language(8192, 2, window).segment for window in (0, 16, 2048)] == [8192, 512, 2048]
    assert language(128, 2, 16).segment == 128 and language().within(10**6).mixed_tokens == 450_000
    with pytest.raises(UserError, match="context 5000 is no multiple of 512"):
        language(5000)


def test_the_loss_by_position_is_that_of_all_tokens_before(corpus, monkeypatch):
    monkeypatch.setattr(examine, "STREAM", 256)
    monkeypatch.setattr(examine, "BLOCK", 100)
    torch.manual_seed(0)
    model = Decoder(Config("gated-deltanet", d_model=32, n_heads=2)).requires_grad_(False)
    for block in model.blocks:
        torch.nn.init.normal_(block.memory.out.weight)  # a new memory says nothing
    found = examine.by_position(model, [corpus], embedded())
    tokens = torch.from_numpy(examine.streams([corpus])).long()
    assert found["streams"] == len(tokens) > 2 and found["length"] == tokens.shape[1] == 256

    def nats():
        logits = model.logits(model(tokens[:, :-1])[0])
        return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")

    whole = nats()
    for block in model.blocks:
        alterations.hold(block.memory, "write", 0.0)
    closed = nats()
    for i, (start, stop) in enumerate([(1, 64), (64, 128), (128, 256)]):
        here = slice(start - 1, stop - 1)
        assert found["positions"][i]["nats"] == pytest.approx(float(whole[:, here].mean()), abs=1e-4)
        assert found["closed"][i]["nats"] == pytest.approx(float(closed[:, here].mean()), abs=1e-4)
        gains = (closed - whole)[:, here].mean(1)
        assert found["gain"][i]["nats"] == pytest.approx(float(gains.mean()), abs=1e-4)
        assert found["gain"][i]["low"] < float(gains.mean()) < found["gain"][i]["high"]
    assert len(examine.position_lines(found)) == 5


def test_without_a_memory_nothing_is_closed_and_short_texts_are_not_read(corpus, books, tmp_path):
    model = Decoder(Config("none", d_model=32, n_heads=2)).requires_grad_(False)
    assert set(examine.by_position(model, [corpus], embedded())) == {"length", "streams", "positions"}
    (tmp_path / "short.txt").write_text(PROSE.format("few"))
    short = corpora.folder(tmp_path, embedded(), cache=tmp_path / "cache")
    assert examine.by_position(model, [short], embedded()) == {}
    assert "not measured" in examine.position_lines({})[0]


@pytest.mark.slow
def test_a_language_model_is_trained_examined_and_read_by_all(books, tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(LOSS, "_corpora", corpora.CorpusCache())  # which keeps the folder open
    said, given = [], {"task": ["loss:text"], "background": [str(books)], "hold_out": ["kept"], "context": 256}
    folder = trained(said.append, memory="gated-deltanet", out=tmp_path / "lm", tokens=40_000, **given)
    card = json.loads((folder / loading.CARD).read_text())
    assert card["recipe"]["context"] == 256 and card["data"]["held_out"] == ["kept"]
    found = card["final"]["loss_by_position"]
    assert found["positions"][0]["nats"] < 6 < np.log(4096) and found["gain"][0]["nats"] > 0
    assert any("closed - loss" in line for line in said)
    given = {"lengths": 256, "samples": 2, "background": str(books), "out": tmp_path / "runs"}
    (record,) = atlas_bench.run("loss:text", models=str(folder), **given)
    assert record.status == "ok" and record.metrics["nats_per_token"] < 6 and record.note is None
    from atlas_bench.models import causal_lm

    model, ids = causal_lm.from_atlas_bench(str(folder)), torch.tensor([embedded().encode(PROSE.format("old 7"))])
    assert float(model(ids, labels=ids).loss) < 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"context": "1Ki"}, "context is for running text alone, --task loss:text, and not for babilong"),
        ({"batch": 2, "task": "mqar:8"}, "batch is for running text alone"),
        ({"fixed_schedule": True, "task": "loss:text"}, "fixed_schedule does nothing for running text"),
        ({"size": "180M"}, "unknown size '180M'. Did you mean '170M'"),
        ({"background": "hf:a/b"}, "a data set is for running text alone"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        api.train("titans", tmp_path / "out", **given)


def test_a_size_gives_what_is_not_said():
    paper = command.architecture("titans", "170M", None, None, vocab_size=4096)
    assert (paper.n_layers, paper.d_model, paper.attention_window, paper.vocab_size) == (12, 768, 2048, 4096)
    assert command.architecture("none", "nano", 0, 3).n_layers == 3
