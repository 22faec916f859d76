"""Shards of a plan, and the records that they are put together into: those of one run."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_bench import registry, units
from atlas_bench.errors import UserError
from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key, timeless
from atlas_bench.running import merge, runner, shards
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from tests.marks import sweep
from tests.running.test_runner import Hasher, trap

TASKS = {"tiny": 1, "shared": 3}  # and the questions on one context


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name in TASKS:
        monkeypatch.setitem(registry.TASKS, name, f"tests.running.test_runner:{name.upper()}")


def cells(*samples: int) -> list[Cell]:
    """A cell of each task and number of samples; the longest is more than the model reads."""
    return [
        Cell(task, "a", length, "hasher", seed, count)
        for seed, count in enumerate(samples)
        for length in (300, 60_000)
        for task in TASKS
        if length == 300 or count < 3
    ]


def go(folder: Path, asked: list[Cell], model: Hasher | None = None) -> None:
    run_settings = runner.Settings(block=50, batch=2, checkpoint_tokens=100)
    runner.run(asked, {"hasher": model or Hasher()}, folder, run_settings, Progress(quiet=True))


def read(folder: Path) -> list[Record]:
    records, warnings = store.read_all(folder)
    assert not warnings
    return records


def merged(folders: list[Path], out: Path) -> dict[str, list[str]]:
    return merge.merge(folders, out, warn=pytest.fail, command="merge")


@given(samples=st.lists(st.integers(1, 14), min_size=1, max_size=4), n=st.integers(1, 9))
def test_every_question_is_in_one_shard_and_no_context_is_split(samples, n):
    asked = cells(*samples)
    contexts = sum(-(-cell.samples // TASKS[cell.task]) for cell in asked)
    n = min(n, contexts)
    split = [shards.of(asked, i, n) for i in range(1, n + 1)]
    for cell in asked:
        own = [part for mine in split for part in mine if replace(part, part=None) == cell]
        assert [i for part in own for i in part.asked] == list(range(cell.samples))
        assert all(part.asked.start % TASKS[cell.task] == 0 for part in own)
        sizes = [-(-len(part.asked) // TASKS[cell.task]) for part in own] + [0] * (n - len(own))
        assert max(sizes) - min(sizes) <= 1
    loads = [sum(-(-len(part.asked) // TASKS[part.task]) for part in mine) for mine in split]
    assert min(loads) > 0 and max(loads) - min(loads) <= 1
    with pytest.raises(UserError, match=f"shard 1/{contexts + 1}: the plan has {contexts} context"):
        shards.of(asked, 1, contexts + 1)


@sweep("seed", range(16), quick=range(2))
def test_shards_that_are_stopped_and_run_again_are_one_run(tmp_path, seed):
    dice = random.Random(seed)
    asked = cells(*(dice.randint(1, 8) for _ in range(dice.randint(1, 2))))
    contexts = sum(-(-cell.samples // TASKS[cell.task]) for cell in asked)
    n = dice.randint(1, min(5, contexts))
    go(tmp_path / "one", asked)
    folders = [tmp_path / f"shard{i}" for i in range(1, n + 1)]
    for i, out in enumerate(folders, start=1):
        model = Hasher(trap(dice.randrange(3000), KeyboardInterrupt()))
        with suppress(runner.Interrupted):
            go(out, shards.of(asked, i, n), model)
        go(out, shards.of(asked, i, n), model)
    told = merged(dice.sample(folders, n), tmp_path / "merged")
    assert not told["missing"] and len(told["written"]) == len(asked)
    one, together = read(tmp_path / "one"), read(tmp_path / "merged")
    assert [timeless(record) for record in together] == [timeless(record) for record in one]
    for record in together:
        assert [i for part in record.parts for i in range(part["first"], part["stop"])] == [*range(record.samples)]
    assert merged(folders, tmp_path / "merged")["written"] == [] and len(read(tmp_path / "merged")) == len(asked)


def test_two_merges_at_once_write_no_cell_twice(tmp_path, monkeypatch):
    asked, folders, real = cells(7), [tmp_path / "1", tmp_path / "2"], merge.joined
    for i, folder in enumerate(folders, start=1):
        go(folder, shards.of(asked, i, 2))

    def overtaken(parts, command=None):
        monkeypatch.setattr(merge, "joined", real)
        assert len(merged(folders, tmp_path / "out")["written"]) == len(asked)
        return real(parts, command)

    monkeypatch.setattr(merge, "joined", overtaken)
    told = merged(folders, tmp_path / "out")
    assert (told["written"], len(told["already"])) == ([], len(asked)) and len(read(tmp_path / "out")) == len(asked)


def test_what_is_missing_is_told_and_comes_with_the_next_merge(tmp_path):
    asked = cells(7)
    for i in (1, 3):
        go(tmp_path / str(i), shards.of(asked, i, 3))
    told = merged([tmp_path / "1", tmp_path / "3"], tmp_path / "out")
    assert told["written"] == [] and not (tmp_path / "out").exists()
    assert told["missing"] == [
        "tiny:a 300 hasher: samples 3-4 of 7",
        "shared:a 300 hasher: samples 3-5 of 7",
        "no record of shard 2/3",
    ]
    go(tmp_path / "2", shards.of(asked, 2, 3)[:1])  # killed before its second cell
    told = merged([tmp_path / "1", tmp_path / "3", tmp_path / "2"], tmp_path / "out")
    assert told["missing"] == ["shared:a 300 hasher: samples 3-5 of 7"]
    go(tmp_path / "2", shards.of(asked, 2, 3))
    told = merged([tmp_path / "1", tmp_path / "3", tmp_path / "2"], tmp_path / "out")
    assert (len(told["written"]), len(told["already"]), told["missing"]) == (1, 1, [])


def test_a_cell_that_only_the_lost_shard_has_is_missed(tmp_path):
    asked = [Cell("tiny", "a", 300, "hasher", seed, 1) for seed in range(3)]
    go(tmp_path / "1", shards.of(asked, 1, 2))
    told = merged([tmp_path / "1"], tmp_path / "out")
    assert told["missing"] == ["no record of shard 2/2", "no record of 1 of the plan's 3 cells"]


def test_parts_of_two_splits_are_not_mixed(tmp_path):
    asked = cells(6)[:1]
    go(tmp_path / "half", shards.of(asked, 1, 2))
    go(tmp_path / "third", shards.of(asked, 2, 3))
    (fault, *_) = merged([tmp_path / "half", tmp_path / "third"], tmp_path / "out")["missing"]
    assert fault == (
        "tiny:a 300 hasher: sample 2 twice, in shard 1/2 and shard 2/3; give the shards of one split alone"
    )


def test_parts_of_two_versions_are_not_one_run(tmp_path):
    asked = cells(4)[:1]
    for i in (1, 2):
        go(tmp_path / str(i), shards.of(asked, i, 2))
    (record,) = read(tmp_path / "2")
    (tmp_path / "2" / "tiny.jsonl").write_text(replace(record, versions={"numpy": "1"}).to_json() + "\n")
    (fault,) = merged([tmp_path / "1", tmp_path / "2"], tmp_path / "out")["missing"]
    assert "its parts differ in versions: " in fault and "Run them again in one environment" in fault


def test_a_part_that_failed_makes_a_failed_record_until_it_is_run_again(tmp_path):
    asked = cells(4)[:1]
    folders = [tmp_path / "1", tmp_path / "2"]
    go(folders[0], shards.of(asked, 1, 2))
    go(folders[1], shards.of(asked, 2, 2), Hasher(trap(0, ValueError("broken"))))
    for _ in range(2):  # a failed record is not written twice
        merged(folders, tmp_path / "out")
    (failed,) = read(tmp_path / "out")
    assert failed.status == "failed" and failed.reason.startswith("ValueError: broken") and len(failed.answers) == 2
    go(folders[1], shards.of(asked, 2, 2))
    merged(folders, tmp_path / "out")
    go(tmp_path / "one", asked)
    assert timeless(store.latest(read(tmp_path / "out"))[0]) == timeless(*read(tmp_path / "one"))


def test_whole_cells_are_copied_and_no_folder_without_records_is_taken(tmp_path):
    go(tmp_path / "a", cells(2)[:1])
    go(tmp_path / "b", cells(2)[1:2])
    merged([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert read(tmp_path / "out") == sorted(read(tmp_path / "a") + read(tmp_path / "b"), key=lambda r: r.task)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no records in .*empty"):
        merged([tmp_path / "empty"], tmp_path / "out")


def test_a_part_is_another_cell_than_the_whole(tmp_path):
    go(tmp_path, shards.of(cells(4)[:1], 1, 2))
    go(tmp_path, cells(4)[:1])
    part, whole = read(tmp_path)
    assert len(part.answers) == 2 and part.part["shard"] == 1 and whole.part is None and len(whole.answers) == 4
    assert cell_key(part) != cell_key(whole) == cell_key(replace(part, part=None))
    assert Record.from_json(part.to_json(), warn=pytest.fail) == part


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/3", "1/" + "9" * 10])
def test_what_is_no_shard(text):
    with pytest.raises(UserError, match=r"is none\. Write i/N"):
        units.parse_shard(text)
