"""The table fits 80 columns, says every status and why, and prints what models say as it stands."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from atlas_bench.results.record import answer_row
from atlas_bench.results.score import UNTRAINED
from atlas_bench.running.run_table import render


def shown(records, *, width=80, terminal=False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    render(records, console)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_eighty_columns_and_every_number(make, terminal):
    scores = {"babilong/official": {"correct": 812, "n": 1000}, "babilong/word": {"correct": 798, "n": 1000}}
    text = shown([make(scores=scores)], terminal=terminal)
    assert max(map(len, text.splitlines())) <= 80
    row, second = text.splitlines()[2:4]
    assert row.split() == (
        ["babilong:qa1", "10M", "atlas", "81.2", "1000", "78.7-83.5", "20.0K", "768.0KiB", "584.0MiB"]
    )
    assert second.split() == ["/word", "79.8", "1000", "77.2-82.2"]
    assert "acc % by babilong/official version 1" in text and "16.7 % (babilong:qa1)" in text


def test_scorers_that_agree_take_one_row(make):
    same = {"correct": 2, "n": 2}
    text = shown([make(scores={"babilong/official": same, "babilong/word": same})])
    assert "/word " not in text.split("\n\n")[0] and len(text.split("\n\n")[0].splitlines()) == 3


@pytest.mark.parametrize("status", ["unsupported", "oom", "failed", "timeout"])
def test_status_and_reason(failed, status):
    text = shown([failed(status, "needs 10M\nhas 2K")])
    assert status in text.splitlines()[2]
    assert f"{status}: babilong:qa1 10M atlas: needs 10M has 2K" in text


def test_partial_scores_of_a_stopped_cell_are_not_shown(make):
    assert "100.0" not in shown([make(status="timeout", reason="slow")])


def test_long_names_fold_and_nothing_is_lost(make):
    name = "HuggingFaceTB/SmolLM-135M-Instruct-with-a-very-long-name"
    text = shown([make(model=name, task="a" * 40)])
    assert max(map(len, text.splitlines())) <= 80
    assert "584.0MiB" in text and "34.2-100.0" in text and text.count("a") >= 40


def test_a_url_stands_on_one_line_and_takes_no_room_from_the_numbers(make):
    name = "openai:http://localhost:8000/v1#qwen3-8b;tokenizer=Qwen/Qwen3-8B"
    lines = shown([make(model=name), make(model="atlas-nano")]).splitlines()
    assert name in lines and max(map(len, lines)) <= 80
    assert lines[lines.index(name) + 1].split()[:3] == ["babilong:qa1", "10M", "100.0"]


def test_a_long_name_stands_once_above_all_its_rows(make):
    """Names of 40 characters in 80 columns: a heading each, with the rows of both lengths and scorers below."""
    names = [f"gated-deltanet-with-forty-characters-no-{i}" for i in range(3)]
    scores = {"babilong/official": {"correct": 1, "n": 2}, "babilong/word": {"correct": 2, "n": 2}}
    records = [make(model=name, length=n, scores=scores) for n in (1000, 2000) for name in names]
    lines = shown(records).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line in names] == names
    for name in names:
        first = lines.index(name) + 1
        starts = [line.split()[:2] for line in lines[first : first + 4]]
        assert starts == [["babilong:qa1", "1K"], ["/word", "100.0"], ["babilong:qa1", "2K"], ["/word", "100.0"]]


def test_a_note_is_marked_and_told_once(make):
    note = f"{UNTRAINED}, by its card for babilong:qa2 alone"
    text = " ".join(shown([make(note=note), make(length=1000, note=note)]).split())
    assert text.count("babilong:qa1 # ") == 2 and text.count(f"# babilong:qa1 atlas: {note}.") == 1


def test_a_stopped_cell_has_a_mark_of_its_own_and_no_wilson_interval(make):
    text = " ".join(shown([make(note="asked 2 of 9 {}", protocol={"stopping": {"rule": "width"}})]).split())
    assert "babilong:qa1 ^ " in text and "^ babilong:qa1 atlas: asked 2 of 9 {}." in text
    assert "Wilson" not in text and "95 % Wilson interval" in shown([make()])


def test_questions_that_share_contexts_have_an_interval_over_these(make):
    verdicts = [i < 10 for i in range(20)]  # ten questions on each of two contexts: all right, all wrong
    answers = [
        answer_row(i, question="q", targets=["t"], answer="a", correct={"s": right}) | {"context": i // 10 * 10}
        for i, right in enumerate(verdicts)
    ]
    text = shown([make(scores={"s": {"correct": 10, "n": 20}}, headline="s", answers=answers)])
    assert "0.2-99.8" in text and "2 contexts, design effect 20.0" in " ".join(text.split())


def test_markup_emoji_and_escape_codes_are_shown_not_obeyed(failed):
    text = shown([failed("failed", "[bold]x[/] :smile: \x1b[31m", model="[red]m[/red]")], terminal=True)
    assert "[bold]x[/] :smile: \\x1b[31m" in text and "[red]m[/red]" in text and "\x1b[31m" not in text


def test_ascii_when_not_a_terminal(failed):
    records = [failed("failed", "caf\u00e9 \u2603", model="m\u00f6del")]
    assert shown(records).isascii() and "m\\xf6del" in shown(records)
    assert "m\u00f6del" in shown(records, terminal=True)


def test_twins_are_told_apart(make):
    text = shown([make(), make(seed=1)], width=100)
    assert "atlas seed=0" in text and "atlas seed=1" in text
    options = make().options | {"prompt": "official"}
    text = shown([make(), make(options=options)], width=100)
    assert "prompt=bare" in text and "prompt=official" in text and "seed" not in text


def test_order_is_task_then_length_and_the_latest_counts(make, failed):
    text = shown([make(), failed("oom", "x", length=1000), make(length=1000)])
    rows = text.splitlines()[2:]
    assert rows[0].split()[1] == "1K" and rows[2].split()[1] == "10M" and "oom" not in text


def test_unmeasured_stays_blank(make):
    record = make(tokens_per_second=None, state_bytes=None, peak_rss_bytes=None, chance=None, scorer_version={})
    text = shown([record])
    assert "None" not in text and "Chance" not in text and "version unknown" in text
    assert shown([make(scores={"babilong/official": {"correct": 0, "n": 0}})]).splitlines()[2].split()[3] == "0"


def test_no_records():
    assert shown([]) == "No records.\n"
