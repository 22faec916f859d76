"""Questions along a stream, answers had together or not at all, a model's own wrapping, and losses by position."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_bench import registry
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.results.record import timeless
from atlas_bench.running import losses, runner, streams
from atlas_bench.running.attempt import Attempt
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.types import Rules, Sample, Scorer, TaskOptions
from tests.running.test_runner import BLOCK, INTERVAL, Digits, Hasher, trap

STOPS = (100, 700, 710, 1500)


class Along:
    """Five questions on each stream: four on the way, one at the end."""

    name, subsets, version = "along", ("",), "1"

    def rules(self, subset):
        said = {"along/read": Scorer(lambda answer, sample: answer == sample.targets[0])}
        return Rules(said, chance=0.0, max_answer_tokens=3, questions_per_context=5)

    def check(self, subset, length, tokenizer, options):
        pass

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            if i % 5 == 0:
                context = Digits(length - 2, seed + i)
            at = (*STOPS, None)[i % 5]
            reads = length - 2 if at is None else at
            target = str(int(context.read(0, reads).sum()))
            yield Sample(i, context, (i, 1), (target,), {"plan_hash": f"{seed}-{i // 5}"}, asked_at=at)

    def describe(self):
        return "along"


class Summer(Hasher):
    """Answers the sum of what it has read."""

    def start(self, batch):
        return np.zeros((batch, 1), dtype=np.int64)

    def feed(self, state, tokens):
        self.trap(self.fed)
        self.fed += tokens.size
        return state + tokens.sum(1, keepdims=True)

    def answer(self, state, question, max_tokens, stop):
        return str(int(state[0, 0]))


class Endpoint(Summer):
    """Answers all at once; some of them are errors."""

    def __init__(self, failing=(), **more):
        super().__init__(**more)
        self.failing, self.asked = set(failing), 0

    def answer_all(self, asked, max_tokens, stop, keep):
        self.asked += len(asked)
        for i, (state, question) in reversed(list(enumerate(asked))):  # in the order in which they come
            failed = question[0] in self.failing
            keep(i, ConnectionError("429: too many\nrequests") if failed else str(int(state[0, 0])))


ALONG, CELL = Along(), Cell("along", "", 2500, "m", samples=12)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "along", f"{__name__}:ALONG")


def go(folder: Path, model, cell=CELL, **settings):
    chosen = runner.Settings(**{"block": BLOCK, "batch": 2, "checkpoint_tokens": INTERVAL} | settings)
    (record,) = runner.run([cell], {cell.model: model}, folder, chosen, Progress(quiet=True))
    return record


@pytest.mark.parametrize("settings", [{}, {"batch": 1}, {"batch": 3, "block": 7}, {"block": 4096}])
@pytest.mark.parametrize("model", [Summer, Endpoint])
def test_a_question_is_asked_where_it_belongs_and_the_stream_is_read_once(tmp_path, settings, model):
    asked = model()
    record = go(tmp_path, asked, **settings)
    assert record.scores["along/read"] == {"correct": 12, "n": 12}
    assert [row["index"] for row in record.answers] == list(range(12))
    assert [row.get("asked_at") for row in record.answers[:5]] == [*STOPS, None]
    assert [row["context"] for row in record.answers] == [0] * 5 + [5] * 5 + [10] * 2
    assert record.tokens_read == 2 * 2498 + 700 + 12 * 2
    near = 10 * 2  # 710 is read on a fork from 700: twice those ten tokens
    assert asked.fed <= 2 * 2498 + 700 + near


@pytest.mark.parametrize("at", [0, 650, 1450, 3000, 4999, 5200])
def test_a_stop_on_the_way_goes_on_without_asking_again(tmp_path, at):
    plain = go(tmp_path / "plain", Summer())
    model = Summer(trap(at, KeyboardInterrupt()))
    with pytest.raises(runner.Interrupted):
        go(tmp_path / "out", model)
    assert timeless(go(tmp_path / "out", model, batch=3)) == timeless(plain)


def test_samples_that_were_not_answered_are_no_wrong_answers_and_are_asked_again_alone(tmp_path):
    plain = go(tmp_path / "plain", Endpoint())
    broken = Endpoint(failing=[3, 11])
    record = go(tmp_path / "out", broken)
    assert record.status == "failed"
    assert record.reason.startswith("2 of 12 samples were not answered; the same command asks them again. The first:")
    assert record.scores["along/read"] == {"correct": 10, "n": 10}
    assert [row["index"] for row in record.answers if "failed" in row] == [3, 11]
    assert record.answers[3]["failed"] == "429: too many requests" and record.answers[3]["correct"] == {}
    mended = Endpoint()
    again = go(tmp_path / "out", mended)
    assert mended.asked == 2 and again.resumed and again.tokens_read > plain.tokens_read  # two streams are read again
    assert timeless(replace(again, tokens_read=None)) == timeless(replace(plain, tokens_read=None))
    assert [kept.status for kept in store.read(tmp_path / "out" / "along.jsonl")[0]] == ["failed", "ok"]
    assert not (tmp_path / "out" / ".checkpoints").exists()


def test_time_that_runs_out_after_an_unanswered_sample_loses_none(tmp_path, monkeypatch):
    now = 0.0  # seconds; each block takes 2 ms, whatever else the machine does

    class Slow(Endpoint):
        def feed(self, state, tokens):
            nonlocal now
            now += 0.002
            return super().feed(state, tokens)

    cell = replace(CELL, samples=30)
    plain = go(tmp_path / "plain", Endpoint(), cell)
    monkeypatch.setattr("atlas_bench.running.keeping.time", SimpleNamespace(perf_counter=lambda: now))
    first = go(tmp_path / "out", Slow(failing=[3]), cell, timeout=0.15)
    assert first.status in ("timeout", "failed") and 5 < len(first.answers) < 30
    for limit in (0.2, 0.3, 100):
        last = go(tmp_path / "out", Slow(), cell, timeout=limit)
    assert timeless(replace(last, tokens_read=None)) == timeless(replace(plain, tokens_read=None))


def test_questions_may_come_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.running.test_streams.STOPS", (700, 710, 705, 100))
    assert go(tmp_path, Summer()).scores["along/read"] == {"correct": 12, "n": 12}


def test_nothing_answered_at_all_has_no_score(tmp_path):
    record = go(tmp_path, Endpoint(failing=range(12)))
    assert (record.status, record.scores, len(record.answers)) == ("failed", {}, 12)


class Chatty(Summer):
    """Has tokens of its own around every prompt."""

    wrap = ((90, 91, 92), (93,))

    def answer(self, state, question, max_tokens, stop):
        assert question[-1] == 93
        return str(int(state[0, 0]) - 90 - 91 - 92)


def test_a_model_s_own_tokens_are_counted_and_read(tmp_path):
    record = go(tmp_path, Chatty())
    assert record.scores["along/read"] == {"correct": 12, "n": 12}
    assert [row.get("asked_at") for row in record.answers[:2]] == [103, 703]
    samples = list(Evaluation(CELL, ALONG, Chatty()).samples())
    assert [sample.length for sample in samples[:5]] == [at + 2 + 4 for at in STOPS] + [2500 + 4]
    assert samples[0].context is samples[4].context is not samples[5].context
    context = samples[0].context
    assert context.read(1, 6).tolist() == [91, 92, *context.inner.read(0, 3).tolist()]
    assert np.concatenate([context.read(a, a + 100) for a in range(0, 2501, 100)]).shape == (context.length,)


@given(
    st.lists(st.lists(st.integers(0, 5000), min_size=1, max_size=6), min_size=1, max_size=4),
)
def test_stops_rise_and_every_question_lies_behind_one(reads):
    group = [[Sample(0, Digits(max(stream), 0), (), (), asked_at=at) for at in sorted(stream)] for stream in reads]
    found = streams.stops(group)
    assert all(b - a >= streams.NEAR for a, b in pairwise(found))
    assert found[-1] <= min(max(stream) for stream in reads)
    assert all(any(stop <= at for stop in found) for stream in reads for at in stream)


# ---- losses


@pytest.fixture(scope="module")
def model():
    return loading.load("gated-deltanet-nano", threads=1)


def books(tmp_path: Path) -> TaskOptions:
    text = "It was the best of times, and it was the worst of times, said the old man of the sea. "
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(text.replace("times", ("times", "days", "years")[i]) * 60)
    return TaskOptions(background=str(tmp_path))


def test_losses_are_those_of_the_whole_stream_at_once(tmp_path, model):
    (tmp_path / "books").mkdir()
    options = books(tmp_path / "books")
    cell = Cell("loss", "text", 1000, "m", samples=3, options=options)
    record = go(tmp_path / "out", model, cell)
    assert (record.status, record.scores, record.headline, record.chance) == ("ok", {}, None, None)
    assert [(part["from"], part["to"]) for part in record.curve] == [
        (1, 64), (64, 128), (128, 256), (256, 512), (512, 1000),
    ]  # fmt: skip
    assert [part["n"] for part in record.curve] == [3 * n for n in (63, 64, 128, 256, 488)]
    whole = []
    for sample in Evaluation(cell, registry.task("loss"), model).samples():
        _, nats, _ = model.logprobs(model.start(1), sample.context.read(0, 1000)[None])
        whole.append(-float(nats.sum()))
    assert record.metrics["nats_per_token"] == pytest.approx(sum(whole) / (3 * 999), abs=1e-4)
    assert all(part["low"] < part["nats"] < part["high"] and part["streams"] == 3 for part in record.curve)
    other = go(tmp_path / "other", model, cell, block=333, batch=1)
    for a, b in zip(record.curve, other.curve, strict=True):
        assert a["nats"] == pytest.approx(b["nats"], abs=1e-3)


def test_a_restarted_model_knows_nothing_of_what_came_before(tmp_path, model, monkeypatch):
    from atlas_bench.tasks import loss

    (tmp_path / "books").mkdir()
    monkeypatch.setattr(loss, "RESTART", 256)
    cell = Cell("loss", "restart", 1000, "m", samples=1, options=books(tmp_path / "books"))
    record = go(tmp_path / "out", model, cell)
    (sample,) = Evaluation(cell, registry.task("loss"), model).samples()
    tokens = sample.context.read(0, 1000)[None]
    parts = [model.logprobs(model.start(1), tokens[:, at : at + 257])[1].sum() for at in range(0, 999, 256)]
    assert record.metrics["nats_per_token"] == pytest.approx(-float(sum(parts)) / 999, abs=1e-4)
    assert record.curve[0]["low"] is None  # one stream has no interval


@pytest.mark.parametrize(("subset", "restart"), [("text", None), ("restart", 256)])
def test_a_text_is_read_behind_a_model_s_opening_and_its_template_left_out(
    tmp_path, model, monkeypatch, subset, restart
):
    from atlas_bench.tasks import loss

    (tmp_path / "books").mkdir()
    monkeypatch.setattr(loss, "RESTART", 256)
    monkeypatch.setattr(model, "wrap", ((7, 8, 9), (10, 11)), raising=False)
    monkeypatch.setattr(model, "opening", (7,), raising=False)
    cell = Cell("loss", subset, 1000, "m", samples=2, options=books(tmp_path / "books"))
    record, other = go(tmp_path / "a", model, cell), go(tmp_path / "b", model, cell, block=77, batch=1)
    assert record.curve[0]["n"] == 2 * 64 and sum(part["n"] for part in record.curve) == 2 * 1000
    assert record.metrics["nats_per_token"] == pytest.approx(other.metrics["nats_per_token"], abs=1e-3)
    monkeypatch.undo()
    monkeypatch.setattr(loss, "RESTART", 256)
    total = 0.0
    for sample in Evaluation(cell, registry.task("loss"), model).samples():
        tokens = sample.context.read(0, 1000)
        for at in range(0, 1000, restart or 1000):
            part = np.concatenate([[7], tokens[at : at + (restart or 1000) + 1]])
            nats = model.logprobs(model.start(1), part[None].astype(np.int32))[1]
            total -= float(nats[0, : 1 if at == 0 else 0].sum() + nats[0, 1:].sum())
    assert record.metrics["nats_per_token"] == pytest.approx(total / 2000, abs=1e-4)


def test_a_loss_that_is_stopped_between_two_rows_counts_none_twice(tmp_path, model, monkeypatch):
    (tmp_path / "books").mkdir()
    cell = Cell("loss", "text", 300, "m", samples=3, options=books(tmp_path / "books"))
    plain = go(tmp_path / "plain", model, cell, batch=3)
    keep, kept = Attempt._keep, []

    def stops(self, sample, row):
        if len(kept) == 1:
            kept.append(None)
            raise KeyboardInterrupt
        kept.append(sample)
        keep(self, sample, row)

    monkeypatch.setattr(Attempt, "_keep", stops)
    with pytest.raises(runner.Interrupted):
        go(tmp_path / "out", model, cell, batch=3)
    assert timeless(go(tmp_path / "out", model, cell, batch=3)) == timeless(plain)


def test_a_loss_goes_on_after_a_stop(tmp_path, model, monkeypatch):
    (tmp_path / "books").mkdir()
    cell = Cell("loss", "text", 1000, "m", samples=2, options=books(tmp_path / "books"))
    plain = go(tmp_path / "plain", model, cell)
    logprobs, calls = model.logprobs, []

    def stops(state, tokens):
        calls.append(tokens.size)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return logprobs(state, tokens)

    monkeypatch.setattr(model, "logprobs", stops, raising=False)
    with pytest.raises(runner.Interrupted):
        go(tmp_path / "out", model, cell)
    again = go(tmp_path / "out", model, cell)
    assert timeless(again) == timeless(plain) and again.resumed and len(calls) == 6 + 5


def test_a_model_without_probabilities_is_unsupported(tmp_path):
    cell = Cell("loss", "text", 1000, "m", samples=1)
    record = go(tmp_path, Summer(), replace(cell))
    assert record.status == "unsupported" and "no probabilities" in record.reason


@given(st.integers(2, 5000), st.lists(st.integers(1, 4999), max_size=8))
def test_sums_do_not_depend_on_how_the_stream_is_cut(length, cuts):
    nats = -np.abs(np.sin(np.arange(1, length, dtype=np.float64)))[None]
    greedy = nats > -0.5
    edges = sorted({0, length - 1, *(cut for cut in cuts if cut < length - 1)})
    sums = losses.empty(1, length)
    for a, b in pairwise(edges):
        sums = losses.add(sums, length, a + 1, nats[:, a:b], greedy[:, a:b])
    assert sums[0, :, 0].sum() == length - 1
    assert math.isclose(sums[0, :, 1].sum(), -nats.sum(), rel_tol=1e-9)
    assert losses.edges(length)[-1] == length and len(losses.edges(length)) == sums.shape[1]
