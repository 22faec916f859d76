"""A record's line: read back as written, kept whole across versions, refused with file and line by one plain rule."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import is_typeddict

import atlas_bench.results
from atlas_bench.errors import UserError
from atlas_bench.results.record import (
    ANSWER_CHARS,
    DEPTH,
    EARLIER_OFFICIAL,
    Joined,
    Part,
    Record,
    Rescoring,
    answer_row,
    cell_key,
    clip,
    timeless,
)

GOLDEN = Path(__file__).with_name("golden.jsonl")
LINES = GOLDEN.read_text().splitlines()
HINTS = {name: hint for name, hint in get_type_hints(Record).items() if name != "extra"}
NEEDED = ("status", "task", "task_version", "subset", "length", "model", "seed", "samples")

numbers = st.integers(-2, 3) | st.sampled_from([-0.5, 0.0, 1.0, 1.5, float("inf"), float("nan"), 10**18, 1e300])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=3)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3))
ANSWER = {"index": 0, "question": "", "targets": ["a"], "answer": "", "correct": {}}
RESCORING = {"source": "a", "scorer": "b", "version": "1", "cut": 0, "at": "now"}
PART = {"from": 1, "streams": 1, "nats": 2.5, "low": None, "high": 3}
near = st.sampled_from(  # what is almost right
    [
        *([row] for row in (ANSWER, PART, ANSWER | PART, RESCORING)),
        *([RESCORING | {name: value}] for name in RESCORING for value in (None, 1, "a")),
        *([ANSWER | {name: value}] for name in ANSWER for value in (None, 1, True, "a", {"s": 0.5}, {"s": 2})),
        *([ANSWER | {name: value}] for name in ("context", "distance", "needle_depth") for value in (None, 1, 1.5)),
        *([PART | {name: value}] for name in PART for value in (None, 1, "a")),
        {"first": 0, "stop": 2}, {"first": 0, "stop": -1},
        "1", "01", "2", "ok", {}, [], [{}], [{"a": 1}], {"s": {}}, {"s": "1"}, {"s": 1}, {"s": 0.5}, {"s": True},
        {"s": {"n": 1}}, {"s": {"correct": True, "n": 1}}, {"s": {"correct": 1, "n": 1.0}},
        {"s": {"correct": 2, "n": 1}}, {"s": {"correct": 0.5, "n": 1, "more": 2}},
        {"s": {"correct": 0, "n": 0}}, {"s": {"correct": -1, "n": 0}},
    ]
)  # fmt: skip


@st.composite
def rows(draw) -> dict[str, Any]:
    """A good line's object after a few changes: fields dropped, given other values, added."""
    row = json.loads(draw(st.sampled_from(LINES)))
    for name in draw(st.lists(st.sampled_from(sorted(row)), max_size=2, unique=True)):
        del row[name]
    return row | draw(st.dictionaries(st.sampled_from([*HINTS, "extra", "colour"]), values | near, max_size=3))


def fits(value: Any, hint: Any) -> bool:
    """The rule of types, as one would say it."""
    parts = get_args(hint)
    if is_typeddict(hint):  # is_answer, is_part and the counts of a score have its rule
        return isinstance(value, dict)
    if hint is Any:
        return True
    if get_origin(hint) in (Union, UnionType):  # Annotated[..] | None is the former
        return any(fits(value, part) for part in parts)
    if get_origin(hint) is Literal:
        return any(value == part for part in parts)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(fits(item, parts[1]) for item in value.values())
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def amount(value: Any, most: float = 10**18 - 1) -> bool:
    return value is None or 0 <= value <= most


def is_answer(row: dict[str, Any]) -> bool:
    """The rule of a row of `answers`."""
    texts = all(isinstance(row.get(name), str) for name in ("question", "answer"))
    if not (texts and fits(row.get("index"), int) and isinstance(row.get("targets"), list)):
        return False
    whole = all(fits(row[name], int) for name in ("context", "asked_at", "distance") if name in row)
    verdicts = row.get("correct")
    return (
        whole
        and all(amount(row.get(name)) for name in ("index", "context", "asked_at", "distance"))
        and fits(row.get("needle_depth", 0.5), float)
        and amount(row.get("needle_depth"), 1)
        and isinstance(verdicts, dict)
        and all(isinstance(each, bool) or (fits(each, float) and 0 <= each <= 1) for each in verdicts.values())
    )


def is_part(row: dict[str, Any]) -> bool:
    """The rule of a part of `curve`."""
    return (
        all(fits(row.get(name), int) for name in ("from", "streams"))
        and all(amount(row[name]) for name in ("from", "streams"))
        and "nats" in row
        and all(fits(row.get(name), float | None) for name in ("nats", "low", "high"))
        and all(abs(row.get(name) or 0) < 1e300 for name in ("nats", "low", "high"))
    )


def is_row(row: dict[str, Any], kind: type) -> bool:
    """The rule of an object of other fields: those that it needs are there, each is of its type, and counts count."""
    needed = [
        name for name, hint in get_type_hints(kind, include_extras=True).items() if get_origin(hint) is not NotRequired
    ]
    there = {name: (row[name], hint) for name, hint in get_type_hints(kind).items() if name in row}
    return all(name in row for name in needed) and all(
        fits(value, hint) and (name == "batch" or not isinstance(value, (int, float)) or amount(value))
        for name, (value, hint) in there.items()
    )


def is_record(row: dict[str, Any]) -> bool:
    """The rule of a whole line."""
    if row.get("schema", "1") != "1" or any(name not in row for name in NEEDED):
        return False
    if not all(fits(value, HINTS[name]) for name, value in row.items() if name in HINTS):
        return False
    counts = [(score.get("correct"), score.get("n")) for score in row.get("scores", {}).values()]
    names = ("length", "samples", "parameters", "state_bytes", "training_tokens", "tokens_read", "seconds")
    if not all(amount(row.get(name)) for name in (*names, "tokens_per_second", "peak_rss_bytes")):
        return False
    if not amount(row.get("chance"), 1) or any(abs(value or 0) >= 1e300 for value in row.get("metrics", {}).values()):
        return False
    inner = ((Rescoring, row.get("rescored") or []), (Joined, row.get("parts") or []))
    inner += ((Part, [] if row.get("part") is None else [row["part"]]),)
    if not all(is_row(each, kind) for kind, rows in inner for each in rows):
        return False
    if not all(map(is_answer, row.get("answers", []))) or not all(map(is_part, row.get("curve", []))):
        return False
    return all(None not in pair and isinstance(pair[1], int) and 0 <= pair[0] <= pair[1] < 10**18 for pair in counts)


@settings(max_examples=300, deadline=None)
@given(rows())
def test_a_line_is_read_where_the_plain_rule_says_so(row):
    line = json.dumps(row)
    row = json.loads(line, parse_constant=lambda _: None)  # what a file holds: no NaN
    told = []
    if not is_record(row):
        with pytest.raises(UserError, match=r"^a\.jsonl:7: .*schema|^a\.jsonl:7: not a record: "):
            Record.from_json(line, where="a.jsonl:7", warn=told.append)
        assert told == []
        return
    extra = {name: value for name, value in row.items() if name not in HINTS}
    made = Record(**{name: value for name, value in row.items() if name in HINTS}, extra=extra)
    read = Record.from_json(line.encode(), where="a.jsonl:7", warn=told.append)
    assert read == made and vars(read).keys() == vars(made).keys()
    assert len(told) == bool(extra) + ("schema" not in row)


@pytest.mark.parametrize("line", GOLDEN.read_text().splitlines())
def test_golden_lines_read_back_identically(line):
    assert Record.from_json(line, warn=pytest.fail).to_json() == line


def test_golden_first_line_is_the_fixture(make):
    assert Record.from_json(GOLDEN.read_text().splitlines()[0]) == make()


def test_missing_optional_fields_get_defaults():
    line = json.dumps(
        {
            "status": "ok",
            "task": "mqar",
            "task_version": "1",
            "subset": "",
            "length": 64,
            "model": "titans",
            "seed": 0,
            "samples": 5,
        }
    )
    record = Record.from_json(line)
    assert record.schema == "1" and record.scores == {} and record.state_bytes is None


def test_defaults_are_not_shared():
    line = json.dumps({name: json.loads(LINES[0])[name] for name in NEEDED})
    a, b = Record.from_json(line), Record.from_json(line)
    a.options["data"], a.extra["x"] = "hub", 1
    assert b.options == {} and b.extra == {} and Record.from_json(line) == b


def test_a_missing_schema_is_told_with_what_to_do(make):
    row = json.loads(make().to_json())
    del row["schema"]
    told = []
    assert Record.from_json(json.dumps(row), where="a.jsonl:7", warn=told.append) == make()
    assert told == ['a.jsonl:7: no schema, read as 1. Add "schema": "1" where that is right.']


@pytest.mark.parametrize("schema", [None, 1, "", "0", "01", "-1", "1.0", "one", " 1", "\u0661", [], "1\n"])
def test_a_schema_that_is_no_number_says_what_to_write(make, schema):
    line = json.dumps(json.loads(make().to_json()) | {"schema": schema})
    with pytest.raises(UserError, match=r'a\.jsonl:7: not a record: schema is .* Write "1"'):
        Record.from_json(line, where="a.jsonl:7")


def test_a_schema_of_many_digits_is_newer_and_shown_short(make):
    with pytest.raises(UserError, match="is newer than 1") as error:
        Record.from_json(make(schema="9" * 10_000).to_json(), where="a.jsonl:7")
    assert len(str(error.value)) < 200


def test_messages_hold_no_control_characters(make):
    row = json.loads(make().to_json())
    told = []
    Record.from_json(json.dumps(row | {"\x1b[2J\u202e" * 200: 1}), warn=told.append)
    for change in ({"status": "\x1b[2J\u202e"}, {"scores": {"\x1b[2J\u202e": {"correct": 2, "n": 1}}}):
        with pytest.raises(UserError) as error:
            Record.from_json(json.dumps(row | change))
        told.append(str(error.value))
    assert len(told) == 3 and all(text.isprintable() and text.isascii() and len(text) < 500 for text in told)


def test_nesting_ends_before_recursion_does(make):
    row = json.loads(make().to_json())

    def nested(levels: int) -> str:
        return json.dumps(row | {"options": {"a": 0}}).replace('{"a": 0}', '{"a": ' * levels + "0" + "}" * levels)

    deep = Record.from_json(nested(DEPTH - 1))
    assert Record.from_json(deep.to_json()) == deep and len(cell_key(deep)) == 32
    for levels in (DEPTH, 300, 900):
        with pytest.raises(UserError, match=r"a\.jsonl:7: not (JSON|a record: more than 64)"):
            Record.from_json(nested(levels), where="a.jsonl:7")
    wide = row | {"options": {"a": [[0]] * 1000}}
    assert Record.from_json(json.dumps(wide)).options == wide["options"]


def test_unknown_fields_are_kept_and_told(make):
    row = json.loads(make().to_json()) | {"colour": {"a": [1]}, "extra": 3}
    told = []
    record = Record.from_json(json.dumps(row), where="a.jsonl:7", warn=told.append)
    assert record.extra == {"colour": {"a": [1]}, "extra": 3}
    assert len(told) == 1 and "a.jsonl:7" in told[0] and "colour" in told[0]
    assert json.loads(record.to_json()) == row
    assert Record.from_json(record.to_json()) == record


def test_newer_schema_names_file_and_line(make):
    with pytest.raises(UserError, match=r"a\.jsonl:7: record schema 12 is newer than 1"):
        Record.from_json(make(schema="12").to_json(), where="a.jsonl:7")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"length": "10M"},
        {"length": 1.5},
        {"length": True},
        {"schema": 1},
        {"length": -5},
        {"tokens_per_second": 10**400},
        {"chance": 1.5},
        {"metrics": {"nats": 10**400}},
        {"scores": {"s": 1}},
        {"scores": {"s": {"correct": 3, "n": 2}}},
        {"scores": {"s": {"n": 2}}},
        {"scores": {"s": {"correct": 1, "n": 2.5}}},
        {"scores": {"s": {"correct": -0.5, "n": 2}}},
        {"answers": [1]},
        {"resumed": None},
        {"seconds": "1"},
    ],
)
def test_wrong_values_are_refused(make, change):
    row = json.loads(make().to_json()) | change
    with pytest.raises(UserError, match=rf"a\.jsonl:7: not a record: {next(iter(change))}"):
        Record.from_json(json.dumps(row), where="a.jsonl:7")


@pytest.mark.parametrize("line", ["", "{", "[]", "1", "{}", "\x00", b"\xff", "[" * 100_000, "9" * 5000])
def test_what_is_no_record_is_refused(line):
    with pytest.raises(UserError, match=r"a\.jsonl:7"):
        Record.from_json(line, where="a.jsonl:7")


def test_a_line_is_one_ascii_line(make):
    line = make(reason="a\nb\u2028\u2603\ud800").to_json()
    assert line.isascii() and len(line.splitlines()) == 1
    assert Record.from_json(line).reason == "a\nb\u2028\u2603\ud800"


def test_numpy_and_not_finite_values_can_be_written(make):
    record = make(seconds=float("nan"), tokens_per_second=np.float32("inf"), state_bytes=np.int64(3))
    back = Record.from_json(record.to_json())
    assert (back.seconds, back.tokens_per_second, back.state_bytes) == (None, None, 3)


def test_cell_key_is_the_cell_and_nothing_else(make):
    key = cell_key(make())
    assert key == cell_key(make(status="oom", scores={}, seconds=1.0, command="other", block=1, headline=None))
    assert key == cell_key(make(options=dict(reversed(make().options.items()))))
    assert key == cell_key(Record.from_json(make().to_json()))
    changes = {
        "task": "niah",
        "task_version": "2",
        "subset": "qa2",
        "length": 5,
        "model": "x",
        "weights_hash": None,
        "seed": 1,
        "samples": 3,
        "protocol": {"stop": []},
    }
    others = [cell_key(make(**{name: value})) for name, value in changes.items()]
    others.append(cell_key(make(options={"data": "hub"})))
    assert len({key, *others}) == 11
    older = "435aa5bb52d0ad9133676182af57a206"
    assert cell_key(make(protocol={})) == older, "a changed key makes every kept result run again"


def test_the_official_prompt_of_an_earlier_version_is_another_cell(make):
    """Its words and the end of its answers were not the benchmark's: it is neither reused nor called official."""
    official = {"options": {"data": "generated", "background": "generated", "prompt": "official"}}
    now, before = make(**official), make(**official, protocol={})
    assert Record.from_json(now.to_json()) == now
    read = Record.from_json(before.to_json())
    assert read.options["prompt"] == EARLIER_OFFICIAL and cell_key(read) != cell_key(now)
    assert Record.from_json(read.to_json()) == read
    for other in (make(protocol={}), make(**official, protocol={}, task="mine")):
        assert Record.from_json(other.to_json()) == other


def test_timeless_forgets_circumstance_only(make):
    again = make(
        seconds=1.0, tokens_per_second=2.0, peak_rss_bytes=3, hardware={}, command="", resumed=True,
        started=None, ended=None, block=7, batch=1,
    )  # fmt: skip
    assert timeless(make()) == timeless(again)
    assert timeless(make()) != timeless(make(memory="titans"))
    assert timeless(make()) != timeless(make(extra={"a": 1}))


def test_answers_are_cut_with_a_mark():
    assert clip("a" * ANSWER_CHARS) == "a" * ANSWER_CHARS
    row = answer_row(
        np.int64(0),
        question="q",
        targets=("t",),
        answer="a" * (ANSWER_CHARS + 5),
        correct={"s": np.bool_(True)},
        needle_positions=np.array([4]),
    )
    assert row["answer"] == "a" * ANSWER_CHARS + " [... 5 characters cut]"
    assert json.loads(json.dumps(row)) == row


def test_results_import_nothing_heavy_nor_tasks_nor_models():
    for file in Path(atlas_bench.results.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not name.startswith(("torch", "atlas_bench.tasks", "atlas_bench.models")), file
