"""Several readers of one stream: every answer and every number of the state is that of one reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import atlas_bench
from atlas_bench import registry
from atlas_bench.models import loading
from atlas_bench.results.record import timeless
from atlas_bench.running import runner, streams
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from atlas_bench.running.settings import Settings
from atlas_bench.tasks import making
from atlas_bench.tasks.babilong import BABILONG
from atlas_bench.types import TaskOptions
from tests.marks import sweep
from tests.running.test_runner import Digits, Hasher, Tiny

SCREENED = ("atlas-nano", "gated-deltanet-nano", "omeganet-nano", "titans-nano")


def run(folder: Path, cell: Cell, model, **settings):
    return runner.run([cell], {cell.model: model}, folder, Settings(**settings), Progress(quiet=True))[0]


@sweep("name", SCREENED, quick=["gated-deltanet-nano"])
def test_several_readers_give_one_readers_record(name, tmp_path):
    model, cell = loading.load(name), Cell("babilong", "qa1", 16_000, name, samples=4)
    one = run(tmp_path / "1", cell, model, block=1000, batch=2)
    many = run(tmp_path / "3", cell, model, block=1000, batch=2, readers=3)
    assert timeless(one) == timeless(many) and one.status == "ok"
    assert (one.parallel, many.parallel) == (None, {"form": "by events", "readers": 3})


@pytest.mark.slow
@pytest.mark.parametrize("name", SCREENED)
def test_after_1m_tokens_the_state_is_the_same_to_the_bit(name):
    model = loading.load(name)
    text = next(BABILONG.samples("qa1", 1_000_000, 1, 0, model.tokenizer, TaskOptions())).context
    one, many = model.start(1), model.start(1)
    for tokens in streams.blocks([text], 0, text.length, model.block):
        one = model.feed(one, tokens)
    for tokens, found in streams.searched([text], 0, text.length, model.block, model=model, readers=3):
        many = model.feed(many, tokens) if found is None else model.replay(many, found)
    one, many = model.pack(one), model.pack(many)
    assert one.keys() == many.keys() and all(np.array_equal(one[key], many[key]) for key in one)


def test_a_search_goes_on_where_a_checkpoint_ends(tmp_path):
    model, cell = loading.load("atlas-nano"), Cell("babilong", "qa1", 8_000, "atlas-nano", samples=2)
    settings = {"block": 500, "batch": 1, "checkpoint_tokens": 1000, "readers": 2}
    whole = run(tmp_path / "whole", cell, model, **settings)

    calls, replay = iter(range(10)), model.replay

    def stop(state, found):
        if next(calls) == 9:
            raise KeyboardInterrupt
        return replay(state, found)

    model.replay = stop
    with pytest.raises(runner.Interrupted, match="at token 4,500"):
        run(tmp_path / "cut", cell, model, **settings)
    del model.replay
    resumed = run(tmp_path / "cut", cell, model, **settings)
    assert resumed.resumed and timeless(resumed) == timeless(whole)


def test_a_model_without_a_search_reads_densely(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "task", lambda name: Tiny())
    one, many = (
        run(tmp_path / str(n), Cell("tiny", "a", 1000, "hasher", samples=4), Hasher(), block=100, readers=n)
        for n in (1, 4)
    )
    assert timeless(one) == timeless(many)
    assert many.parallel == {"form": "dense", "readers": 4} and "parallel" not in one.to_json()


def test_blocks_come_in_order_whoever_makes_them():
    digits = [Digits(1000, 1), Digits(1000, 2)]
    whole = np.concatenate(list(streams.blocks(digits, 7, 990, 64, readers=5)), axis=1)
    assert np.array_equal(whole, np.stack([text.read(7, 990) for text in digits]))


def test_all_readers_make_the_text_that_the_check_of_the_first_sample_takes(tmp_path, monkeypatch):
    makers = []
    monkeypatch.setattr(making, "make", lambda corpus, numbers: makers.append(making._PROCESSES.get()))
    atlas_bench.run("niah:single", 1000, "oracle", samples=1, readers=3, out=tmp_path)
    assert makers and set(makers) == {3}
