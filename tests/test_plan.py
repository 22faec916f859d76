"""What a command means where it names little: subsets, lengths and numbers of questions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atlas_bench.errors import UserError
from atlas_bench.running import plan
from atlas_bench.units import parse_length

TASKS = Path(__file__).parents[1] / "docs" / "tasks.md"


def test_a_task_s_bare_name_is_its_usual_subsets_and_all_is_every_one():
    usual = [("babilong", f"qa{i}") for i in range(1, 6)]
    assert plan.parse_tasks("babilong") == usual and len(plan.parse_tasks("babilong:all")) == 20
    assert plan.parse_tasks("mqar:all") == plan.parse_tasks("mqar")
    with pytest.raises(UserError, match="unknown subset of babilong 'al'"):
        plan.parse_task("babilong:al")


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
