"""A dataset folder loses nothing, is read by `datasets` without a network, and is whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.export import dataset
from atlas_bench.export.folder import files_below
from atlas_bench.results import store
from atlas_bench.results.record import Record, cell_key
from atlas_bench.stats.intervals import wilson
from tests.marks import sweep

COMMITTED = Path(__file__).parents[2] / "results"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
CHECKED = {  # what the reader of records vouches for
    "index": st.integers(0, 2**59),
    "question": st.text(),
    "targets": st.lists(JSON, max_size=3),
    "answer": st.text(),
    "correct": st.dictionaries(st.text(), st.booleans() | st.floats(0, 1), max_size=3),
}
MAY = {name: st.integers(0, 2**59) for name in ("context", "asked_at", "distance")} | {"needle_depth": st.floats(0, 1)}
FREE = sorted({*dataset._ANSWER, "length", "losses"} - {*CHECKED, *MAY})
ANSWERS = st.builds(
    lambda free, checked: free | checked,
    st.dictionaries(st.sampled_from(FREE), JSON), st.fixed_dictionaries(CHECKED, optional=MAY),
)  # fmt: skip


def read(folder: Path, name: str) -> list[dict]:
    from pyarrow import parquet

    return [row for file in sorted((folder / "data").glob(f"{name}-*")) for row in parquet.read_table(file).to_pylist()]


def test_datasets_reads_both_tables_offline(tmp_path, monkeypatch, make, failed):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(dataset, "SHARD_BYTES", 1)  # a set of files per record, the first without an answer
    records = [failed("oom", "10 GB"), make(), make(seed=1)]
    files = dataset.write(iter(records), tmp_path / "out")
    assert sorted(str(file.relative_to(tmp_path / "out")) for file in files) == [
        "README.md",
        *(f"data/answers-0000{i}.parquet" for i in (1, 2)),
        *(f"data/cells-0000{i}.parquet" for i in range(3)),
        *(f"records/0000{i}.jsonl" for i in range(3)),
    ]
    load = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    cells = datasets.load_dataset(str(tmp_path / "out"), "cells", **load)
    answers = datasets.load_dataset(str(tmp_path / "out"), "answers", **load)
    assert cells["status"] == ["oom", "ok", "ok"]
    assert json.loads(cells[1]["options"]) == records[1].options
    assert cells["cell"] == [cell_key(record) for record in records]
    assert answers["record"] == [1, 1, 2, 2]
    assert answers[0]["targets"] == ["kitchen"]
    assert answers[1]["correct"] == [
        {"scorer": "babilong/official", "correct": 1.0},
        {"scorer": "babilong/word", "correct": 0.0},
    ]


def test_datasets_reads_records_without_any_answer(tmp_path, monkeypatch, failed):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    dataset.write([failed("oom", "10 GB")], tmp_path / "out")
    load = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    assert datasets.load_dataset(str(tmp_path / "out"), "cells", **load)["reason"] == ["10 GB"]
    assert datasets.get_dataset_config_names(str(tmp_path / "out")) == ["cells"]


@sweep("shard", [1 << 20, dataset.SHARD_BYTES], quick=[1 << 20])
def test_the_committed_records_come_back(tmp_path, monkeypatch, shard):
    """In `records/` as they were, and in the tables every field."""
    monkeypatch.setattr(dataset, "SHARD_BYTES", shard)
    file = COMMITTED / "babilong.jsonl"
    records, _ = store.read(file)
    dataset.write(records, tmp_path / "out")
    assert store.read_all(tmp_path / "out" / "records") == (records, [])
    cells, answers = read(tmp_path / "out", "cells"), read(tmp_path / "out", "answers")
    assert len(cells) == len(records)
    assert len(answers) == sum(len(record.answers) for record in records)
    for cell, record in zip(cells, records, strict=True):
        assert cell["extra"] is None
        for name in cell.keys() & {f.name for f in fields(Record)} - {"scores", "extra"}:
            value = getattr(record, name)
            assert (json.loads(cell[name]) if isinstance(value, (dict, list)) else cell[name]) == value
    asked = [(row["cell"], row["index"], row["question"], row["answer"], row["needle_positions"]) for row in answers]
    assert asked == [
        (cell_key(record), row["index"], row["question"], row["answer"], row["needle_positions"])
        for record in records
        for row in record.answers
    ]
    assert not any(row["more"] for row in answers)


def test_a_scorer_s_name_may_hold_half_a_surrogate_pair(tmp_path, make):
    record = make(scores={"\ud800a": {"correct": 1, "n": 2}}, scorer_version={"\ud800a": "\ud800"}, answers=[])
    dataset.write([record], tmp_path / "out")
    (score,) = read(tmp_path / "out", "cells")[0]["scores"]
    assert (score["scorer"], score["version"], score["accuracy"]) == ("?a", "?", 0.5)


def test_a_score_stands_with_its_interval(tmp_path, make):
    record = make(scores={"a/b": {"correct": 1.5, "n": 4}, "none": {"correct": 0, "n": 0}}, scorer_version={"a/b": "2"})
    dataset.write([record], tmp_path / "out")
    low, high = wilson(1.5, 4)
    blank = dict.fromkeys(("version", "accuracy", "low", "high"))
    assert read(tmp_path / "out", "cells")[0]["scores"] == [
        {"scorer": "a/b", "version": "2", "correct": 1.5, "n": 4, "accuracy": 0.375, "low": low, "high": high},
        {"scorer": "none", "correct": 0.0, "n": 0, **blank},
    ]


@settings(max_examples=40, deadline=None)
@example(
    answers=[
        {"index": 2**59, "question": "\ud800", "targets": [1], "answer": "", "correct": {}}
        | {"length": 2**63, "prompt_length": 1}
    ],
    extra={"cell": 1},
    seed=2**63 - 1,
)
@given(
    answers=st.lists(ANSWERS, max_size=3),
    extra=st.dictionaries(st.text(max_size=5), JSON, max_size=2),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_any_record_is_written_and_nothing_is_lost(answers: list, extra: dict, seed: int):
    """Fields of unknown names, values of other types, numbers beyond 64 bits, half surrogates."""
    known = {f.name for f in fields(Record)}
    record = Record(
        status="ok", task="t", task_version="1", subset="", length=1, model="\ud800m", seed=seed, samples=1,
        answers=answers, extra={name: value for name, value in extra.items() if name not in known},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        dataset.write([record], out)
        assert store.read_all(out / "records")[0] == [Record.from_json(record.to_json())]
        (cell,) = read(out, "cells")
        rest = json.loads(cell["extra"] or "{}")
        assert rest.keys() == _unsurrogate(record.extra).keys() and cell["seed"] == seed
        assert cell["model"] == "?m"
        rows = read(out, "answers")
        assert len(rows) == len(answers)
        for row, answer in zip(rows, answers, strict=True):
            more = json.loads(row["more"] or "{}")
            for name, value in _unsurrogate(answer).items():
                column = {"length": "prompt_length"}.get(name, name)
                typed = row[column] if column in dataset._ANSWER and column != "more" else None
                if name == "correct" and typed is not None and isinstance(value, dict):
                    typed = {entry["scorer"]: entry["correct"] for entry in typed}
                assert more.get(name, more.get(column, typed)) == value


def _unsurrogate(value):
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def test_the_card_names_every_column_and_loads_as_yaml(tmp_path, make):
    yaml = pytest.importorskip("yaml")
    hostile = "<img src=x>`|\u202e\x1b[31m" + "m" * 1000
    dataset.write([make(model=hostile), make(status="failed"), make()], tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    card = yaml.safe_load(head)
    assert [config["config_name"] for config in card["configs"]] == ["cells", "answers"]
    assert all(list((tmp_path / "out").glob(config["data_files"])) for config in card["configs"])
    assert card["size_categories"] == ["n<1K"]
    assert "3 records of 2 cells (1 failed, 2 ok) with 6 answers" in body
    for columns in (dataset._cell_columns(), dataset._answer_columns()):
        assert [name for name in columns if f"`{name}`" not in body] == []
    assert not {"\u202e", "\x1b"} & set(text) and "m" * 200 not in text
    assert "`<img src=x>'\\|\\u202e" in body


def test_many_records_are_never_all_in_memory(tmp_path, monkeypatch, make):
    """When a record is asked for, all but the last set of files are on the disk."""
    monkeypatch.setattr(dataset, "SHARD_BYTES", 3 * len(make().to_json()))

    def records():
        for seed in range(10):
            written = sum(len(file.read_bytes().splitlines()) for file in tmp_path.rglob("*.jsonl"))
            assert seed - written <= 3
            yield make(seed=seed)

    dataset.write(records(), tmp_path / "out")
    assert [cell["record"] for cell in read(tmp_path / "out", "cells")] == list(range(10))


def test_a_failure_midway_leaves_nothing(tmp_path, monkeypatch, make):
    monkeypatch.setattr(dataset, "SHARD_BYTES", 1)

    def records():
        yield make()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.write(records(), tmp_path / "out")
    with pytest.raises(UserError, match=r"no records to put into '.*out'\. Give"):
        dataset.write([], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_a_full_one_is_not(tmp_path, make):
    (tmp_path / "out").mkdir()
    dataset.write([make()], tmp_path / "out")
    before = files_below(tmp_path)
    for taken in (tmp_path / "out", tmp_path / "out" / "README.md"):
        with pytest.raises(UserError, match=r"is not an empty folder. Name a new one"):
            dataset.write([make(seed=1)], taken)
    with pytest.raises(UserError, match=r"cannot write .*Choose another folder"):
        dataset.write([make()], tmp_path / "out" / "README.md" / "below")
    assert files_below(tmp_path) == before


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "umask"), reason="permissions of POSIX")
def test_the_folder_is_readable_as_others_are(tmp_path, make):
    dataset.write([make()], tmp_path / "out")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_equal_cells_are_told_apart_by_record(tmp_path, make, failed):
    again = replace(make(), started="later")
    dataset.write([make(), again], tmp_path / "out")
    cells = read(tmp_path / "out", "cells")
    assert [cell["record"] for cell in cells] == [0, 1]
    assert cells[0]["cell"] == cells[1]["cell"]
