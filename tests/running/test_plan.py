"""What a command means where it names little: subsets, lengths and numbers of questions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.running import plan
from atlas_bench.running.stopping import Width
from atlas_bench.units import parse_length

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "docs" / "tasks.md"


def test_a_task_s_bare_name_is_its_usual_subsets_and_all_is_every_one():
    usual = [("babilong", f"qa{i}") for i in range(1, 6)]
    assert plan.parse_tasks("babilong") == usual and len(plan.parse_tasks("babilong:all")) == 20
    assert plan.parse_tasks("mqar:all") == plan.parse_tasks("mqar")
    with pytest.raises(UserError, match="unknown subset of babilong 'al'"):
        plan.parse_task("babilong:al")


def test_a_subset_may_follow_the_subset_of_its_task(tmp_path):
    assert plan.parse_tasks("babilong:qa1, qa2,mqar:8,32,babilong:qa1") == [
        ("babilong", "qa1"), ("babilong", "qa2"), ("mqar", "8"), ("mqar", "32"),
    ]  # fmt: skip
    assert plan.split_lm_eval("babilong:qa1,qa2,lm-eval:piqa") == ("babilong:qa1,babilong:qa2", ["piqa"])
    assert registry.split_tasks("niah:single,babilong") == ["niah:single", "babilong"]
    for wrong, said in (("babilong,qa1", "unknown task 'qa1'"), ("babilong:qa1,qa21", "unknown task 'qa21'")):
        with pytest.raises(UserError, match=said):
            plan.parse_tasks(wrong)
    file = tmp_path / "my_task.py"
    file.write_bytes((ROOT / "examples" / "my_task.py").read_bytes())
    assert [subset for _, subset in plan.parse_tasks(f"{file}:kept,changed,mqar:8")] == ["kept", "changed", "8"]


def test_cells_of_a_bare_task_that_cannot_be_asked_are_left_out():
    models, said = loading.load_all(["oracle", "constant"]), []

    def left(text, *lengths):
        cells = plan.make(plan.parse_tasks(text), lengths=lengths, models=list(models), samples=1)
        kept = plan.askable(cells, models, text, said.append)
        return [(cell.subset, cell.length) for cell in kept if cell.model == "constant"]

    assert left("mqar:8", 1000) == [("8", 1000)] and not said
    small = [name for name in registry.task("mqar").subsets if "4096" not in name]
    assert left("mqar", 1000, 30_000) == [(name, 1000) for name in small] + [
        (name, 30_000) for name in registry.task("mqar").subsets
    ]
    (note,) = said
    assert note.startswith("left out, since no subset was named: mqar:4096 at 1K: length 1000 is too short")
    assert "mqar:4096-spread at 1K: " in note and "30K" not in note
    assert ("qa_1", 1000) not in left("ruler,mqar:8", 1000)
    for refused, why in (("mqar,mqar:4096", "too short for mqar:4096"), ("recall,mqar", "recall is made of published")):
        with pytest.raises(UserError, match=why):
            left(refused, 1000)
    with pytest.raises(UserError, match="too short"):  # nobody would be asked at a length that was named
        left("mqar", 4, 1000)


def test_samples_depend_on_the_length():
    lengths = [0, 16_000, 16_384, 128_000, 131_072, 1_000_000, 10_000_000, 100_000_000]
    wanted = [100, 100, 100, 100, 100, 50, 20, 2]
    assert [plan.default_samples(length) for length in lengths] == wanted
    cells = plan.make([("mqar", "8")], lengths=lengths, models=["m"])
    assert [cell.samples for cell in cells] == wanted
    assert {cell.samples for cell in plan.make([("mqar", "8")], lengths=lengths, models=["m"], samples=7)} == {7}


def test_the_documented_table_is_the_one_that_holds():
    rows = re.findall(r"^\| (none|up to|above) \(?`?(.*?)`?\)? \| (\d+) \|", TASKS.read_text(), re.MULTILINE)
    first, *others, last = [(parse_length(length.split(",")[-1]), int(questions)) for _, length, questions in rows]
    assert (first[0], first[1]) == (plan.FIRST_LENGTHS[-1], plan.FIRST_SAMPLES)
    assert tuple(others) == plan.SAMPLES and last == (plan.SAMPLES[-1][0], 1)


def test_samples_may_be_named_for_each_length():
    lengths = [1000, 16_000, 10_000_000]

    def samples(given):
        return [cell.samples for cell in plan.make([("mqar", "8")], lengths=lengths, models=["m"], samples=given)]

    assert samples("1K=500,10M=2") == [500, 100, 2]  # 16K: by the table
    assert samples({"1K": 500, None: 7}) == samples("7,1K=500") == [500, 7, 7]
    assert samples({1000: 500, 16_000: 3, 10_000_000: 1}) == [500, 3, 1]
    for wrong, said in (
        ("1K=500,2K=50", "--samples has a number for 2K, and --len asks for 1K,16K,10M. Name a length of --len"),
        ("1K=500,1000=50", "length 1K stands twice"),
        ("7,8", "a number for all other lengths stands twice"),
        ("1K=none", "'none' is no whole number from 1 up. Write 100, or 1K=500,10M=20"),
        ("1Q=5", "length '1Q' is not a number of tokens"),
        ("", "'' is no whole number"),
        (0, "samples is 0. Give a whole number from 1 up"),
        ({"1K": 2.5}, "'2.5' is no whole number"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            samples(wrong)


def test_only_scores_can_say_when_to_stop():
    with pytest.raises(UserError, match="--until: task 'loss:text' has no share of right answers"):
        plan.make([("loss", "text")], lengths=[1000], models=["m"], stop=Width(5.0))
