"""Small tables by depth, distance, dose and position: every number with n and interval, in 80 columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import atlas_bench
from atlas_bench.results import breakdowns, leaderboard, report
from atlas_bench.results.formats.text import grid_lines
from atlas_bench.results.record import answer_row
from atlas_bench.results.ruler_summary import TASKS
from atlas_bench.results.summary import summaries
from tests.running.test_run_table import shown

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_task.py"


def grids(records):
    return breakdowns.grids(leaderboard.make(summaries(records)))


def row(index, right, **more):
    return answer_row(index, question="", targets=["a"], answer="a", correct={"s": right}) | more


def test_depth_by_length(make):
    def cell(length, verdicts):
        answers = [row(i, right, needle_depth=(i % 3) / 2 - 0.001) for i, right in enumerate(verdicts)]
        return make(task="niah", subset="single", length=length, headline="s", scores={}, answers=answers)

    cells = [cell(64_000, [True] * 3), cell(4000, [True, False, True] * 2)]
    (grid,) = grids(cells)
    assert list(grid_lines(grid)) == [
        "niah:single, atlas: % by needle depth, n = 1 to 2 a cell",
        "depth           4K          64K",
        "  0 % 100 (34-100) 100 (21-100)",
        " 50 %     0 (0-66) 100 (21-100)",
        "100 % 100 (34-100) 100 (21-100)",
    ]
    assert "% by needle depth" not in shown(cells) and "% by needle depth" in shown([cell(4000, [True] * 15)])


def test_tables_of_few_answers_are_in_json_alone(make):
    def told(form, n):
        answers = [row(i, True, needle_depth=float(i % 2)) for i in range(n)]
        cell = make(task="niah", subset="single", headline="s", answers=answers, scores={"s": {"correct": n, "n": n}})
        return " ".join(report.main([cell], form=form).split())

    for form in ("text", "md", "html"):
        few, enough = told(form, 8), told(form, 9)  # 4 of each depth; 5 at 0 %
        assert "by needle depth, n = " not in few and "by needle depth, n = 4 to 5 a cell" in enough
        assert "1 breakdown with fewer than 5 answers in every cell" in few and "breakdown with" not in enough
    assert "by needle depth, n = 4 a cell" in told("json", 8)


def test_rulers_average_needs_all_thirteen(make):
    def cells(length, share, subsets=TASKS):
        score = {"s": {"correct": 20 * share, "n": 20}}
        return [make(task="ruler", subset=x, length=length, headline="s", scores=score) for x in subsets]

    assert grids(cells(4096, 0.9, TASKS[:12])) == []
    (both,) = grids([*cells(4096, 0.9), *(replace(cell, seed=1) for cell in cells(4096, 0.2))])
    assert both.cells["4Ki", "atlas"] == "55.0"
    heavy = [replace(cell, weights_hash="other") for cell in cells(4096, 0.2, TASKS[:6])]
    (apart,) = grids([*cells(4096, 0.9), *heavy])
    assert [apart.cells["4Ki", column] for column in apart.columns] == ["90.0"]
    (grid,) = grids([*cells(4096, 0.9), *cells(8192, 0.8), *cells(16384, 1.0, TASKS[1:])])
    told = {row: grid.cells[row, "atlas"] for row in grid.rows}
    assert told == {"4Ki": "90.0", "8Ki": "80.0", "effective": "4Ki", "wAvg inc": "83.3", "wAvg dec": "86.7"}


def test_distance_by_model(make):
    def cell(model, right):
        answers = [row(i, right, distance=10**i + 3) for i in range(1, 4)]
        answers.append(row(9, True) | {"failed": "429", "correct": {}, "distance": 11})
        return make(task="retention", subset="end", model=model, headline="s", answers=answers)

    (grid,) = grids([cell("atlas", True), cell("a-model-with-a-very-long-name", False)])
    text = list(grid_lines(grid))
    assert text[0] == "retention:end 10M: % by tokens since the fact, n = 1 a cell"
    assert [line.split()[0] for line in text[-3:]] == ["~10", "~100", "~1K"]
    assert grid.columns == ["a-model-with-a-very-long-name", "atlas"]  # by name where the board has them level
    assert [line[11:23].strip() for line in text[1:-3]] == ["a-model-", "with-a-very-", "long-name"]
    assert all(line.split()[1:3] == ["0", "(0-79)"] for line in text[-3:])


def test_distance_by_age_where_questions_come_on_the_way(make):
    answers = [row(0, True, distance=100, asked_at=1003), row(1, False, distance=980, asked_at=1003)]
    answers.append(row(2, True, distance=99_800))
    (grid,) = grids([make(task="retention", subset="along", length=100_000, headline="s", answers=answers)])
    assert grid.title.startswith("retention:along 100K, atlas: % by tokens since the fact and tokens read by then")
    assert (grid.rows, grid.columns) == (["~100", "~1K", "~100K"], ["~1K", "~100K"])
    assert grid.cells["~1K", "~1K"] == "0 (0-79)" and ("~1K", "~100K") not in grid.cells


def test_doses_keep_their_order(make):
    cells = [
        make(task="robust", subset=f"{kind}-{dose}", headline="s", scores={"s": {"correct": 1 + (dose < 16), "n": 2}})
        for kind in ("update", "near")
        for dose in (256, 0, 16)
    ]
    (grid,) = grids(cells)
    assert (grid.rows, grid.columns) == (["near", "update"], ["0", "16", "256"])
    assert grid.cells["near", "16"] == "50 (9-91)" and grid.cells["near", "0"] == "100 (34-100)"


def test_losses_by_position(make):
    def cell(subset, nats, half):
        part = {"from": 1, "to": 64, "n": 126, "streams": 2, "nats": nats, "accuracy": 0.5}
        span = {"low": None, "high": None} if half is None else {"low": nats - half, "high": nats + half}
        return make(task="loss", subset=subset, scores={}, headline=None, answers=[], curve=[part | span])

    (grid,) = grids([cell("text", 3.25, 0.1), cell("restart", 3.5, None)])
    assert grid.title == "loss 10M: nats/token by position, 2 streams"
    assert grid.cells == {("1 -", "atlas text"): "3.250 +-0.100", ("1 -", "atlas restart"): "3.500"}
    assert max(map(len, shown([cell("text", 3.25, 0.1)]).splitlines())) <= 80


def test_cells_without_a_score_and_other_tasks_make_no_table(make, failed):
    assert grids([make(), failed("oom", "full")]) == []


def test_any_table_keeps_to_80_columns(make):
    parts = [
        {
            "from": 2**i,
            "to": 2 ** (i + 1),
            "n": 9,
            "streams": 2,
            "nats": 10.123,
            "low": 9.0,
            "high": 11.2,
            "accuracy": 0.5,
        }
        for i in range(24)
    ]
    cells = [
        make(task="loss", subset=subset, model=f"model-{i}", scores={}, headline=None, answers=[], curve=parts)
        for i in range(4)
        for subset in ("text", "restart")
    ]
    (grid,) = grids(cells)
    text = list(grid_lines(grid))
    assert max(map(len, text)) <= 80 and sum(line.count("10.123 +-1.100") for line in text) == 24 * 8


def test_what_panels_keep_apart_stays_apart_and_each_seed_counts_once(make):
    def cell(samples, right, **changes):
        answers = [row(i, right, needle_depth=0.5) for i in range(samples)]
        scores = {"s": {"correct": samples * right, "n": samples}}
        facts = {"task": "niah", "subset": "single", "length": 4000, "headline": "s", "scorer_version": {"s": "1"}}
        return make(samples=samples, answers=answers, scores=scores, **facts | changes)

    (once,) = grids([cell(11, True), cell(22, True)])
    assert once.title.endswith("n = 22 a cell")
    books = {"data": "generated", "background": "books", "prompt": "bare"}
    for other, told in (
        ({"options": books}, "single, background books, "),
        ({"weights_hash": "b" * 8}, "weights=bbbb"),
    ):
        one, two = sorted(grids([cell(10, True), cell(10, False, **other)]), key=lambda grid: told in grid.title)
        assert (list(one.values.values()), list(two.values.values())) == ([1], [0])
        assert told in two.title and told not in one.title


def test_foreign_subsets_and_halves_of_intervals_break_nothing(make):
    score = {"s": {"correct": 1, "n": 2, "stderr": 0.1}}
    named = {"headline": "s", "scores": score, "scorer_version": {"s": "1"}}
    part = {"from": 1, "streams": 1, "nats": 2.0}
    curves_ = [{"curve": [part]}, {"curve": [part | {"low": 1.0, "high": None}]}]
    records = [make(task=task, subset=subset, **named) for task in ("robust", "ruler") for subset in ("mine", "near-1")]
    found = grids([*records, *(make(task="loss", seed=i, **named, **curve) for i, curve in enumerate(curves_))])
    assert [grid.kind for grid in found] == ["loss"]  # one dose alone shows nothing
    assert set(found[0].cells.values()) == {"2.000"}


def test_what_the_records_have_decides_and_not_the_name_of_the_task(make):
    answers = [row(0, True, needle_depth=0.5, distance=100), row(1, False, needle_depth=0.9, distance=10)]
    named = {"task": "mine", "headline": "s", "scorer_version": {"s": "1"}, "scores": {"s": {"correct": 1, "n": 2}}}
    found = grids([make(subset=f"noise-{dose}", answers=answers * (dose > 0), **named) for dose in (0, 4)])
    assert [grid.kind for grid in found] == ["depth", "distance", "dose"]
    assert found[0].values == {("50 %", "10M"): 1, ("90 %", "10M"): 0}
    assert found[2].title.startswith("mine 10M, atlas: % by dose") and found[2].columns == ["0", "4"]


def test_a_user_s_own_task_file_has_its_breakdowns(tmp_path):
    """Of the example, which hides a number at a depth, run and reported by the real program."""
    folder = tmp_path / "runs"
    records = atlas_bench.run(str(EXAMPLE), 600, "oracle", 20, out=folder)
    assert all("needle_depth" in answer for answer in records[0].answers)
    for form in ("text", "markdown", "json", "html"):
        assert "by needle depth" in atlas_bench.report(folder, format=form)
