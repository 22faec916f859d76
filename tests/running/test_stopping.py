"""Cells that stop by their answers: what their records say, and that no cell asked to the end is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import atlas_bench
from atlas_bench.cli.app import app
from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.results.score import score
from atlas_bench.running import plan, runner
from atlas_bench.running.progress import Progress
from atlas_bench.running.stopping import Verdict, Width
from atlas_bench.stats import sequential
from tests.test_api import Silent


class Mute(Silent):
    name = "mute"


def rows(scores, context=1):
    return [{"index": i, "context": i - i % context, "correct": {"s": score}} for i, score in enumerate(scores)]


def test_a_width_is_that_of_the_confidence_sequence():
    scores = [True] * 30 + [False] * 10
    low, high = sequential.interval(sequential.counted(scores))
    points = 100 * (high - low)
    assert Width(points + 0.01).reached(rows(scores), "s") and not Width(points - 0.01).reached(rows(scores), "s")
    alike = rows([True] * 80, context=8)  # ten contexts, however many questions
    low, high = sequential.interval(((1.0, 10),))
    assert not Width(100 * (high - low) - 0.01).reached(alike, "s")


def test_a_verdict_is_decided_by_what_both_were_asked_and_later_for_more_comparisons():
    baseline = dict.fromkeys(range(40), 1.0)
    lost = rows([False] * 60)
    rule = Verdict("a", None, 1, baseline)
    needed = next(n for n in range(60) if rule.reached(lost[:n], "s"))
    assert needed == 7  # as evidence has it: 27, and 14 of six
    more = next(n for n in range(60) if replace(rule, comparisons=100).reached(lost[:n], "s"))
    assert more > needed
    assert not rule.reached([row | {"index": row["index"] + 100} for row in lost], "s")
    assert rule == Verdict("a", None, 1) and hash(rule) == hash(Verdict("a", None, 1))


def run(folder, stop, samples=400, **settings):
    models = {"oracle": loading.load("oracle")}
    cells = plan.make([("babilong", "qa1")], lengths=[300], models=["oracle"], samples=samples, stop=stop)
    return runner.run(cells, models, folder, runner.Settings(**settings), Progress(quiet=True))[0]


def test_a_record_says_that_it_stopped_early_and_by_which_rule(tmp_path):
    record = run(tmp_path, Width(20.0))
    n = record.scores[record.headline]["n"]
    assert record.status == "ok" and n == len(record.answers) < record.samples == 400
    assert record.protocol["stopping"] == {"rule": "width", "points": 20.0}
    assert f"asked {n} of 400 questions: stopped as the interval was at most 20 points wide" in record.note
    shown = score(record, record.headline)
    assert (shown["low"], shown["high"]) == sequential.interval(((1.0, n),)) and shown["high"] - shown["low"] <= 0.2
    assert run(tmp_path, Width(20.0)).started == record.started  # it is final
    whole = run(tmp_path, None, samples=40)
    assert len(whole.answers) == 40 and whole.note is None and "stopping" not in whole.protocol
    assert score(whole, whole.headline)["low"] > sequential.interval(((1.0, 40),))[0]
    narrow = run(tmp_path, Width(1.0), samples=16)
    assert len(narrow.answers) == 16 and "asked 16 of 16 questions: the interval is still wider" in narrow.note


def test_whole_batches_are_asked_and_a_kill_between_the_stop_and_the_record_costs_nothing(tmp_path, monkeypatch):
    appended = store.append
    monkeypatch.setattr(store, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Width(20.0), batch=4)
    monkeypatch.setattr(store, "append", appended)
    record = run(tmp_path, Width(20.0), batch=4)
    assert len(record.answers) % 4 == 0 and record.resumed
    assert len(record.answers) == len(run(tmp_path / "other", Width(20.0), batch=4).answers)


def test_compare_stops_a_loser_early_and_asks_the_equal_to_the_end(tmp_path):
    """The baseline is asked everything; the corrected p of what stopped is below 0.05."""
    models = ["oracle", Silent(), "constant"]
    compared = atlas_bench.compare(models, "babilong:qa1", 300, samples=96, sequential=True, out=tmp_path)
    best, silent, constant = compared["rows"]
    assert best["n"] == 96 and best["stopping"] is None
    assert silent["n"] < 96 and silent["versus"]["verdict"] == "worse" and silent["versus"]["p_holm"] < 0.05
    assert silent["versus"]["test"] == "betting" and silent["stopping"]["comparisons"] == 2
    assert silent["versus"]["n"] == silent["n"] and constant["n"] < 96
    record = next(each for each in store.read(tmp_path / "babilong.jsonl")[0] if each.model == "silent")
    assert "stopped as the verdict against oracle was decided" in record.note
    equal = atlas_bench.compare([Silent(), Mute()], "babilong:qa1", 300, samples=16, sequential=True, out=tmp_path)
    assert equal["rows"][1]["n"] == 16 and equal["rows"][1]["versus"]["verdict"] == "not separable"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run babilong:qa1 --until 0", '--until "0" is no width. Give points between 0 and 100'),
        ("run babilong:qa1 --until 200", "is no width"),
        ("run loss --len 1K --until 5 --model oracle", "'loss:text' has no share of right answers"),
        ("run lm-eval:piqa --until 5", "--until does nothing for lm-eval's tasks"),
        ("run lm-eval:piqa --samples 1K=5", "lm-eval's documents have no length"),
        ("run babilong:qa1 --len 1K --samples 2K=5", "--samples has a number for 2K, and --len asks for 1K"),
        ("run babilong:qa1 --len 1K --samples 1K=x", "'x' is no whole number from 1 up"),
        ("compare atlas titans --task mqar:8 --len 1K --seeds 3", "--seeds 3 are trainings. Add --train"),
        ("compare atlas titans --task mqar:8 --len 1K --rates 3", "--rates 3 are learning rates of trainings."),
        ("compare atlas titans --task mqar:8 --len 1K --train 1M --seeds 3 --sequential", "Leave one out"),
        ("train --memory titans --out m --rate 0", "rate is 0.0. Give a factor above 0"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_samples_by_length_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "run mqar:8 --len 300,500 --samples 300=16,500=8 --model oracle --json -q"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    assert [(each["length"], each["samples"]) for each in json.loads(result.stdout)] == [(300, 16), (500, 8)]
