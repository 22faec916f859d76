"""The first lines of a run, and what the run then is."""

from __future__ import annotations

import json

import pytest

from atlas_bench.models import loading
from atlas_bench.results import store
from atlas_bench.running import announce, plan, runner
from tests.command import call

SETTINGS = runner.Settings()


def lines(tasks: str, lengths, names, **options):
    models = loading.load_all(names)
    cells = plan.make(plan.parse_tasks(tasks), lengths=lengths, models=list(models), **options)
    found = announce.lines(runner.evaluations_of(cells, models), SETTINGS)
    assert all(len(line) < 80 for line in found)
    return " ".join(found)


def test_it_says_what_is_read_how_long_that_takes_and_what_interval_it_buys():
    said = lines("babilong", [1000, 16_000], ["swa-nano"], samples=20)
    assert said.startswith("10 cells (babilong:qa1,qa2,qa3,qa4,qa5 at 1K,16K, swa-nano): 1.7M tokens to read, about ")
    assert said.endswith("With 20 questions a score of 50 % is known to 30-70 %, one of 100 % to 84-100 %.")


def test_shared_contexts_count_once_and_controls_are_not_timed():
    said = lines("mqar:8", [1000], ["oracle"], samples=80)
    assert "1 cell (mqar:8 at 1K, oracle): 10.0K tokens to read. With 80 questions on 10 contexts" in said
    assert announce.lines([], SETTINGS) == []


def test_an_endpoint_is_sent_every_context_with_every_question_and_not_called():
    pytest.importorskip("aiohttp")
    said = lines("mqar:8", [1000], ["q=openai:http://127.0.0.1:9/v1#m"], samples=8)
    assert "1 cell (mqar:8 at 1K, q): 8.0K tokens to read. " in said and "about" not in said


def test_full_attention_is_not_told_by_its_first_blocks():
    assert "about" not in lines("babilong:qa1", [16_000], ["transformer-nano"], samples=2)


def test_a_run_announces_what_is_missing_scores_each_cell_and_notes_what_was_never_trained(here):
    words = ["run", "babilong:qa1,babilong:qa2", "--len", "1K", "--model", "small=swa-nano", "--samples", "3"]
    first, second = call(*words), call(*words)
    assert first.exit_code == second.exit_code == 0, first.output
    loaded, said, *_ = first.stderr.splitlines()
    assert loaded == "loading small .." and said.startswith("2 cells (babilong:qa1,qa2 at 1K, small): 6.0K tokens")
    assert first.stderr.count("n=3") == 2
    assert "babilong:qa2 1K small: ok, " in first.stderr and "never trained for this" in first.stderr
    assert "tokens to read, about" not in second.stderr and "not run again" in second.stderr
    records, _ = store.read(here / "runs" / "babilong.jsonl")
    assert [(r.model, r.model_spec, bool(r.note)) for r in records] == [
        ("small", "swa-nano", False), ("small", "swa-nano", True),
    ]  # fmt: skip
    assert records[1].note.endswith("by its card for babilong:qa1 alone")
    assert "babilong:qa2 # " in first.stdout and "# babilong:qa2 small: the model was never trained" in first.stdout
    assert "small" in call("report", "runs").stdout and not call(*words, "--quiet").stderr


def test_a_name_stands_for_one_model_in_a_folder(here):
    words = ["run", "mqar:8", "--len", "1K", "--samples", "2"]
    assert call(*words, "--model", "a=oracle").exit_code == 0
    again, other = (call(*words, "--model", f"a={name}") for name in ("oracle", "constant"))
    assert again.exit_code == 0 and "not run again" in again.stderr
    assert other.exit_code == 2 and "the name 'a' stands for 'oracle' in 'runs', and now for 'constant'" in other.stderr


def test_without_a_length_it_is_the_first_look(here):
    result = call("run", "mqar:8", "--model", "oracle", "--json", "-q")
    assert [(record["length"], record["samples"]) for record in json.loads(result.stdout)] == [(1000, 20), (16_000, 20)]


def test_a_long_cell_shows_its_score_on_the_way(monkeypatch, here):
    from atlas_bench.running import progress

    monkeypatch.setattr(progress, "ROWS", 0.0)
    result = call("run", "mqar:8", "--len", "1K", "--model", "oracle", "--samples", "130", "--batch", "8")
    assert "mqar:8 1K oracle: 100 % (94-100) of the first 64 of 130" in result.stderr, result.stderr
    assert "of the first 130" not in result.stderr
