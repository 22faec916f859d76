"""Records as a folder that is a Hugging Face dataset: two tables, a card, and the records themselves.

    files = write(store.scan("results/", print), "out")

    out/README.md                     the card: what the columns mean, and what the tables cannot say
    out/data/cells-00000.parquet      one row per record       datasets.load_dataset("out", "cells")
    out/data/answers-00000.parquet    one row per answer       datasets.load_dataset("out", "answers")
    out/records/00000.jsonl           the lines as they were   atlas-bench report out/records

Tables need one type for each column and records do not have one, so the tables are for looking and `records/` is
what loses nothing: every command of atlas-bench reads it. A value that its column cannot hold stands in the JSON
text of `extra` (cells) or `more` (answers). Nothing is uploaded.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pyarrow as pa
from pyarrow import parquet

from atlas_bench import __version__
from atlas_bench.errors import UserError
from atlas_bench.export.folder import code, files_below, filled, new_folder
from atlas_bench.results.record import ANSWER_CHARS, Record, cell_key, json_schema
from atlas_bench.results.summary import Summary, summary
from atlas_bench.units import counted

SHARD_BYTES = 32 << 20  # of JSON lines in one set of files: what is in memory at a time
_NAMED = 40  # models or tasks that the card names

_TEXT, _COUNT, _NUMBER = pa.string(), pa.int64(), pa.float64()
_SCALARS = {str: _TEXT, int: _COUNT, float: _NUMBER, bool: pa.bool_()}
_VERDICT = {"scorer": _TEXT, "correct": _NUMBER}
_SCORE = {"scorer": _TEXT, "version": _TEXT, "correct": _NUMBER, "n": _COUNT, "accuracy": _NUMBER} | dict.fromkeys(
    ("low", "high"), _NUMBER
)
_IDENTITY = ("task", "task_version", "subset", "length", "model", "weights_hash", "seed", "samples", "options")
_ANSWER = {  # what a row of `answers` may hold; prompt_length is its "length", the name of the cell's own
    "index": _COUNT, "question": _TEXT, "targets": pa.list_(_TEXT), "answer": _TEXT,
    "correct": pa.list_(pa.struct(_VERDICT)), "needle_positions": pa.list_(_COUNT), "prompt_length": _COUNT,
    "context": _COUNT, "asked_at": _COUNT, "needle_depth": _NUMBER, "distance": _COUNT, "failed": _TEXT, "more": None,
}  # fmt: skip
_ANSWERS_CONFIG = "- config_name: answers\n  data_files: data/answers-*.parquet\n"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))

Kinds = Mapping[str, pa.DataType | None]  # column -> its type; None: JSON text


def write(records: Iterable[Record], folder: str | Path) -> list[Path]:
    """Make the dataset's folder, and return its files.

    records  in any number: they are read one by one, and kept until some 32 MB of them fill a set of files
    folder   does not exist yet, or is empty

    Raises UserError for a folder that holds something or cannot be written, and where there are no records; then
    there is no new folder.
    """
    facts: dict[str, Counter[str]] = defaultdict(Counter)  # grows with the cells, not with their answers
    with new_folder(folder) as draft:
        for sub in ("data", "records"):
            (draft / sub).mkdir()
        for number, shard in enumerate(_shards(records)):
            _write_shard(draft, number, shard, facts)
        if not facts:
            raise UserError(f"no records to put into '{folder}'. Give the .jsonl files or the folder that a run wrote.")
        (draft / "README.md").write_text(_card(facts), encoding="utf-8")
    return files_below(folder)


def _shards(records: Iterable[Record]) -> Iterator[list[tuple[Record, str]]]:
    """Batches of records and their lines; a batch fills one set of files."""
    shard: list[tuple[Record, str]] = []
    size = 0
    for record in records:
        shard.append((record, record.to_json()))
        size += len(shard[-1][1])
        if size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _write_shard(draft: Path, number: int, shard: list[tuple[Record, str]], facts: dict[str, Counter[str]]) -> None:
    cells: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for record, line in shard:
        known = {"record": facts["status"].total(), "cell": cell_key(record)}
        row = _plain(line)
        cells.append(known | _cell(row, summary(record)))
        asked = known | {name: cells[-1][name] for name in _IDENTITY}
        answers += [asked | _answer(answer) for answer in row["answers"]]
        facts["status"][record.status] += 1
        facts["cell"][known["cell"]] += 1
        facts["model"][record.model] += len(record.answers)
        facts["task"][f"{record.task} {record.task_version}"] += 1
        facts["version"][str(record.versions.get("atlas_bench", "unknown"))] += 1
    (draft / "records" / f"{number:05}.jsonl").write_bytes(b"".join(line.encode() + b"\n" for _, line in shard))
    for name, kinds, rows in (("cells", _cell_columns(), cells), ("answers", _answer_columns(), answers)):
        if rows:  # `datasets` cannot read a table of none
            table = pa.Table.from_pylist(rows, schema=pa.schema({name: kind or _TEXT for name, kind in kinds.items()}))
            parquet.write_table(table, draft / "data" / f"{name}-{number:05}.parquet", compression="zstd")


def _plain(line: str) -> Any:
    """The value of a line of JSON; half a surrogate pair, which Parquet's UTF-8 cannot hold, becomes "?"."""
    row = json.loads(line)
    if "\\ud" in line:
        row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    return row


@cache
def _record_columns() -> Kinds:
    """The record's own fields, with every scorer's numbers in `scores`; what is no text, number or truth is JSON."""
    kinds: dict[str, pa.DataType | None] = {}
    for name, hint in get_type_hints(Record).items():
        parts = [part for part in get_args(hint) if part is not NoneType]
        kinds[name] = _SCALARS.get(parts[0] if len(parts) == 1 else hint)
    kinds |= {"status": _TEXT, "scores": pa.list_(pa.struct(_SCORE))}
    return {name: kind for name, kind in kinds.items() if name not in ("answers", "scorer_version")}


def _cell_columns() -> Kinds:
    return {"record": _COUNT, "cell": _TEXT, **_record_columns()}


def _answer_columns() -> Kinds:
    return {"record": _COUNT, "cell": _TEXT, **{name: _record_columns()[name] for name in _IDENTITY}, **_ANSWER}


def _cell(row: Mapping[str, Any], found: Summary) -> dict[str, Any]:
    """A record's row, with one entry for each scorer: accuracy and interval, blank where nothing was asked."""
    fields = {name: value for name, value in row.items() if name not in ("answers", "scorer_version")}
    scores = [
        dict.fromkeys(_SCORE) | {"scorer": name} | {part: scored[part] for part in _SCORE if part in scored}
        for name, scored in ((name, found.score(name)) for name in found.scores)
    ]
    fields["scores"] = _plain(json.dumps(scores))
    return _typed(fields, _record_columns(), rest="extra")


def _answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    named = dict(answer)
    if "length" in named and "prompt_length" not in named:
        named["prompt_length"] = named.pop("length")
    named["correct"] = [{"scorer": scorer, "correct": verdict} for scorer, verdict in named["correct"].items()]
    return _typed(named, _ANSWER, rest="more")


def _typed(row: Mapping[str, Any], kinds: Kinds, *, rest: str) -> dict[str, Any]:
    """The row with a value or None for every column; what fits no column is JSON text in the column `rest`."""
    typed: dict[str, Any] = dict.fromkeys(kinds)
    other: dict[str, Any] = {}
    for name, value in row.items():
        if name == rest or name not in kinds or not _fits(value, kinds[name]):
            other[name] = value
        else:
            typed[name] = value if kinds[name] or value is None else json.dumps(value)
    return typed | ({rest: json.dumps(other)} if other else {})


def _fits(value: Any, kind: pa.DataType | None) -> bool:
    """Whether a column of that type gives the value back."""
    try:
        return kind is None or pa.scalar(value, kind).as_py() == value
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False


def _card(facts: Mapping[str, Counter[str]]) -> str:
    """The page of the dataset, whose tables explain every column."""
    made = json_schema()
    record, answer = made["properties"], made["$defs"]["Answer"]["properties"]
    cells = {name: node["description"] for name, node in record.items()} | {
        "record": "number of the record, from 0, in the order of the lines of `records/`",
        "cell": "hash of the cell's identity",
        "scores": "a list of `scorer`, `version`, `correct`, `n`, `accuracy`, `low`, `high`",
        "extra": "what has no column (JSON)",
    }
    answers = {name: node["description"] for name, node in answer.items()} | {
        "prompt_length": answer["length"]["description"],
        "more": "what has no column (JSON)",
    }
    records, answered = facts["status"].total(), facts["model"].total()
    return filled(
        "dataset_card.md",
        size=next((size for limit, size in _SIZES if max(records, answered) < limit), "n>10M"),
        records=counted(records, "record"),
        cells=counted(len(facts["cell"]), "cell"),
        answers=counted(answered, "answer"),
        answers_config=_ANSWERS_CONFIG if answered else "",
        cell_columns=_columns_table(_cell_columns(), cells),
        answer_columns=_columns_table(_ANSWER, answers),
        statuses=", ".join(f"{count} {status}" for status, count in sorted(facts["status"].items())),
        versions=_list(facts["version"]),
        here=__version__,
        tasks=_list(facts["task"]),
        models=_list(facts["model"]),
        cut=ANSWER_CHARS,
    )


def _columns_table(columns: Iterable[str], meanings: Mapping[str, str]) -> str:
    rows = (f"| `{name}` | {meanings[name]} |" for name in columns)
    return "\n".join(("| column | meaning |", "|---|---|", *rows))


def _list(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(map(code, ordered[:_NAMED])) + more
