"""The JSON Schema and the page's tables are made from the annotations, and hold for every published record."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from atlas_bench.results import record as records
from atlas_bench.results.record import Record
from docs import schema

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "record.md").read_text()
PUBLISHED = [line for file in sorted((ROOT / "results").rglob("*.jsonl")) for line in file.read_text().splitlines()]
EXAMPLE = json.loads(TEXT.split("```json\n")[1].split("```")[0])


@pytest.fixture(scope="module")
def valid():
    """Whether a line's object is valid, by an implementation of JSON Schema that is not ours."""
    jsonschema = pytest.importorskip("jsonschema")
    made = schema.schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made).is_valid


@pytest.mark.parametrize("file", schema.files(), ids=lambda file: file.name)
def test_the_committed_files_are_what_the_annotations_make(file):
    assert schema.files()[file]() == file.read_text(), "run: python -m docs.schema"


def test_every_field_is_explained_once():
    explained = re.findall(r"^\| `(\w+)` \| [^|]+ \| .+ \|$", TEXT, flags=re.MULTILINE)
    made = schema.schema()
    inner = [name for part in made["$defs"].values() for name in part["properties"]]
    assert sorted(explained) == sorted([*Record.__dataclass_fields__, *inner])
    assert list(made["properties"]) == [name for name in Record.__dataclass_fields__ if name != "extra"]
    assert all(node["description"] and node["unit"] for node in made["properties"].values())


def test_a_field_is_documented_where_its_table_begins_and_ends_around_it():
    emptied = re.sub(r"(?m)^\| `task` .*\n", "", TEXT)
    assert emptied != TEXT and schema.with_tables(emptied) == TEXT


@pytest.mark.parametrize(
    ("sentence", "names"),
    [("The cell's identity is ", records._IDENTITY), ("agree on everything but ", records._CIRCUMSTANCE)],
)
def test_the_page_lists_the_fields_that_the_code_does(sentence, names):
    said = TEXT.split(sentence)[1].split(". ")[0].split(": `record")[0]
    assert sorted(re.findall(r"`(\w+)`", said)) == sorted(names)


def test_the_example_is_a_published_record_with_fewer_answers(valid):
    later = {"note", "parallel", "model_spec", "training", "rescored", "part", "parts"}  # only where they say something
    assert set(EXAMPLE) == set(Record.__dataclass_fields__) - {"extra"} - later and valid(EXAMPLE)
    assert valid(EXAMPLE | {"note": "never trained for it", "model_spec": "hf:gpt2"}) and not valid(
        EXAMPLE | {"note": 1}
    )
    source = TEXT.split("Line ")[1]
    number, file = int(source.split()[0]), source.split("(../")[1].split(")")[0]
    whole = json.loads((ROOT / file).read_text().splitlines()[number - 1])
    assert {"protocol": {}, **whole, "answers": None} == {**EXAMPLE, "answers": None}  # it is older than that field
    assert all(answer in whole["answers"] for answer in EXAMPLE["answers"])


def test_every_published_record_is_valid(valid):
    """The heads of all, and of each the first answers: rows repeat one form."""
    for line in PUBLISHED:
        row = json.loads(line)
        assert valid(row | {"answers": row["answers"][:20]}), line[:200]


def test_written_records_are_valid(valid, make, failed):
    curve = {"from": 1, "to": 64, "n": 63, "streams": 1, "nats": 2.5, "low": None, "high": None, "accuracy": 0.5}
    row = make().answers[0] | {"needle_depth": 0.5, "distance": 3, "losses": [[63, 2.5, 1]]}
    for record in (make(), failed("oom", "big"), make(curve=[curve], answers=[row], extra={"colour": 1})):
        assert valid(json.loads(record.to_json()))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "2"}, {"status": "fine"}, {"length": "10M"}, {"length": 1.5}, {"length": True}, {"resumed": None},
        {"scores": {"s": 1}}, {"scores": {"s": {"n": 2}}}, {"scores": {"s": {"correct": 1, "n": 2.5}}},
        {"scores": {"s": {"correct": -0.5, "n": 2}}},
        {"answers": [1]}, {"answers": [{}]}, {"curve": [{}]}, {"seconds": "1"}, {"metrics": {"a": "1"}},
    ],
)  # fmt: skip
def test_what_is_no_record_is_not_valid(valid, make, change):
    row = json.loads(make().to_json())
    assert valid(row) and not valid(row | change)
    assert not valid({name: value for name, value in row.items() if name != next(iter(change))} | {"task": None})


@pytest.mark.parametrize("name", Record.__dataclass_fields__)
def test_the_reader_and_the_schema_take_the_same_values(valid, make, name):
    """One field at a time, every type of JSON."""
    whole = json.loads(make().to_json())
    for value in (
        None,
        True,
        3,
        0.5,
        "text",
        "ok",
        "1",
        [],
        [1],
        {},
        {"a": 1},
        {"a": "b"},
        {"a": {"correct": 1, "n": 1}},
    ):
        row = whole | {name: value}
        try:
            Record.from_json(json.dumps(row))
        except records.UserError:
            read = False
        else:
            read = True
        assert valid(row) == read, value
