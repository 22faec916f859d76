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
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from atlas_bench import __version__
from atlas_bench.errors import UserError
from atlas_bench.results.naming import printable
from atlas_bench.results.record import ANSWER_CHARS, Record, cell_key, clip, json_schema
from atlas_bench.results.score import spreads
from atlas_bench.results.stats import Spread, interval
from atlas_bench.types import Status

SHARD_BYTES = 32 << 20  # of JSON lines in one set of files: what is in memory at a time
_NAMED = 40  # models or tasks that the card names

_JSON = dict  # the kind of a column that holds JSON text
_SCORE = {"scorer": str, "version": str, "correct": float, "n": int, "accuracy": float, "low": float, "high": float}
Line = tuple[int, str, str, dict[str, Spread]]
_IDENTITY = ("task", "task_version", "subset", "length", "model", "weights_hash", "seed", "samples", "options")
_ANSWER = {  # what a row of `answers` may hold; prompt_length is its "length", the name of the cell's own
    "index": int, "question": str, "targets": [str], "answer": str, "correct": [{"scorer": str, "correct": float}],
    "needle_positions": [int], "prompt_length": int, "context": int, "asked_at": int, "needle_depth": float,
    "distance": int, "failed": str, "more": _JSON,
}  # fmt: skip
_ANSWERS_CONFIG = "- config_name: answers\n  data_files: data/answers-*.parquet\n"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass
class _Facts:
    """What the card says of all records; grows with their cells, not with their answers."""

    records: int = 0
    answers: int = 0
    cells: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    models: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)

    def add(self, record: Record, key: str) -> None:
        self.records += 1
        self.answers += len(record.answers)
        self.cells.add(key)
        self.statuses[record.status] += 1
        self.models.add(record.model)
        self.tasks.add(f"{record.task} {record.task_version}")
        self.versions.add(str(record.versions.get("atlas_bench", "unknown")))


def write(records: Iterable[Record], folder: str | Path) -> list[Path]:
    """Make the dataset's folder, and return its files.

    records  in any number: they are read one by one, and kept until some 32 MB of them fill a set of files
    folder   does not exist yet, or is empty

    Raises UserError for a folder that holds something or cannot be written, and where there are no records; then
    there is no new folder.
    """
    facts = _Facts()
    with new_folder(folder) as draft:
        for sub in ("data", "records"):
            (draft / sub).mkdir()
        for number, shard in enumerate(_shards(records, facts)):
            _write_shard(draft, number, shard)
        if not facts.records:
            raise UserError(f"no records to put into '{folder}'. Give the .jsonl files or the folder that a run wrote.")
        (draft / "README.md").write_text(_card(facts), encoding="utf-8")
    return files_below(folder)


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A draft beside `folder` that takes its name when the block ends well, and is removed when it does not.

    Raises UserError for a folder that holds something, and for what the disk refuses.
    """
    folder = Path(folder).absolute()
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"'{folder}' exists and is not an empty folder. Name a new one: nothing is overwritten.")
        draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
        draft.mkdir(parents=True)
        try:
            yield draft
            if folder.exists():
                folder.rmdir()
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write '{folder}': {error.strerror or error}. Choose another folder.") from error


def files_below(folder: str | Path) -> list[Path]:
    """Every file below the folder, in order of path."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def code(text: str, limit: int = 100) -> str:
    """Text of a record as Markdown code for one cell of a table: no markup, no control or bidi character acts."""
    shown = printable(clip(text, limit), ascii_only=False).replace("`", "'").replace("|", "\\|").strip()
    return f"`{shown}`" if shown else ""


def _shards(records: Iterable[Record], facts: _Facts) -> Iterator[list[Line]]:
    """Batches of (number, key, line, spreads), one tuple per record; a batch fills one set of files."""
    shard: list[Line] = []
    size = 0
    for number, record in enumerate(records):
        key, line = cell_key(record), record.to_json()
        facts.add(record, key)
        shard.append((number, key, line, spreads(record)))
        size += len(line)
        if size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _write_shard(draft: Path, number: int, shard: list[Line]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    cells: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for record, key, line, spread in shard:
        row = _plain(line)
        cells.append(_cell_row(record, key, row, spread))
        answers += _answer_rows(record, key, cells[-1], row["answers"])
    (draft / "records" / f"{number:05}.jsonl").write_bytes(b"".join(line.encode() + b"\n" for _, _, line, _ in shard))
    for name, columns, rows in (("cells", _cell_columns(), cells), ("answers", _answer_columns(), answers)):
        if rows:  # `datasets` cannot read a table of none
            schema = pa.schema([(column, _arrow(kind)) for column, kind in columns.items()])
            table = pa.Table.from_pylist(rows, schema=schema)
            parquet.write_table(table, draft / "data" / f"{name}-{number:05}.parquet", compression="zstd")


def _plain(line: str) -> dict[str, Any]:
    """The line's object; half a surrogate pair, which Parquet's UTF-8 cannot hold, becomes "?"."""
    row = json.loads(line)
    if "\\ud" in line:
        row = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    return row


@cache
def _record_columns() -> dict[str, Any]:
    """Column -> kind: the record's own fields, with every scorer's numbers in `scores`."""
    kinds = {name: _kind(hint) for name, hint in get_type_hints(Record).items()} | {"scores": [_SCORE]}
    return {name: kind for name, kind in kinds.items() if name not in ("answers", "scorer_version")}


def _cell_columns() -> dict[str, Any]:
    return {"record": int, "cell": str, **_record_columns()}


def _answer_columns() -> dict[str, Any]:
    return {"record": int, "cell": str, **{name: _record_columns()[name] for name in _IDENTITY}, **_ANSWER}


def _kind(hint: Any) -> Any:
    """The kind of column for a field's annotation: text, numbers and truth as they are, all else as JSON text."""
    if hint == Status:
        return str
    if get_origin(hint) in (Union, UnionType):  # of something and None
        hint = next(part for part in get_args(hint) if part is not NoneType)
    return hint if hint in (str, int, float, bool) else _JSON


def _arrow(kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(kind, list):
        return pa.list_(_arrow(kind[0]))
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow(part)) for name, part in kind.items()])
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), _JSON: pa.string()}[kind]


def _cell_row(record: int, key: str, row: Mapping[str, Any], spread: Mapping[str, Spread]) -> dict[str, Any]:
    fields = {name: value for name, value in row.items() if name not in ("answers", "scorer_version")}
    fields["scores"] = _scores(row["scores"], row["scorer_version"], spread)
    return {"record": record, "cell": key, **_typed(fields, _record_columns(), rest="extra")}


def _scores(scores: Mapping[str, Any], versions: Mapping[str, str], spread: Mapping[str, Spread]) -> Any:
    """One entry per scorer, with accuracy and interval; blank where nothing was asked."""
    if not all(_fits(score["n"], int) and _fits(score["correct"], float) for score in scores.values()):
        return scores
    entries = []
    for scorer, score in scores.items():
        correct, n = score["correct"], score["n"]
        low, high = interval(correct, n, spread.get(scorer, Spread())) if n else (None, None)
        entry = {"scorer": scorer, "version": versions.get(scorer), "correct": correct, "n": n}
        entries.append(entry | {"accuracy": correct / n if n else None, "low": low, "high": high})
    return entries


def _answer_rows(record: int, key: str, cell: Mapping[str, Any], answers: list[Any]) -> Iterator[dict[str, Any]]:
    """Each answer behind its cell's identity, whose columns are those of `cell`, a row of cells."""
    identity = {"record": record, "cell": key, **{name: cell[name] for name in _IDENTITY}}
    for answer in answers:
        named = dict(answer)
        if "length" in named and "prompt_length" not in named:
            named["prompt_length"] = named.pop("length")
        if isinstance(verdicts := named.get("correct"), dict) and all(_is_number(v) for v in verdicts.values()):
            named["correct"] = [{"scorer": scorer, "correct": float(v)} for scorer, v in verdicts.items()]
        yield identity | _typed(named, _ANSWER, rest="more")


def _typed(row: Mapping[str, Any], columns: Mapping[str, Any], *, rest: str) -> dict[str, Any]:
    """The row with a value or None for every column; what fits no column is JSON text in the column `rest`."""
    typed: dict[str, Any] = dict.fromkeys(columns)
    other: dict[str, Any] = {}
    for name, value in row.items():
        kind = columns.get(name)
        if name == rest or kind is None or not (value is None or kind is _JSON or _fits(value, kind)):
            other[name] = value
        else:
            typed[name] = json.dumps(value) if kind is _JSON and value is not None else value
    if other:
        typed[rest] = json.dumps(other)
    return typed


def _fits(value: Any, kind: Any) -> bool:
    """Whether a column of that kind holds the value as it is; true is not 1."""
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        same = isinstance(value, dict) and value.keys() == kind.keys()
        return same and all(value[name] is None or _fits(value[name], part) for name, part in kind.items())
    if kind is float:
        return _is_number(value) and not isinstance(value, bool)
    return type(value) is kind and (kind is not int or -(2**63) <= value < 2**63)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, float)) or (isinstance(value, int) and -(2**53) <= value <= 2**53)


def _card(facts: _Facts) -> str:
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
    rows = max(facts.records, facts.answers)
    return (
        Path(__file__)
        .with_name("dataset_card.md")
        .read_text(encoding="utf-8")
        .format(
            size=next((size for limit, size in _SIZES if rows < limit), "n>10M"),
            records=_count(facts.records, "record"),
            cells=_count(len(facts.cells), "cell"),
            answers=_count(facts.answers, "answer"),
            answers_config=_ANSWERS_CONFIG if facts.answers else "",
            cell_columns=_columns_table(_cell_columns(), cells),
            answer_columns=_columns_table(_ANSWER, answers),
            statuses=", ".join(f"{count} {status}" for status, count in sorted(facts.statuses.items())),
            versions=_list(facts.versions),
            here=__version__,
            tasks=_list(facts.tasks),
            models=_list(facts.models),
            cut=ANSWER_CHARS,
        )
    )


def _columns_table(columns: Iterable[str], meanings: Mapping[str, str]) -> str:
    rows = (f"| `{name}` | {meanings[name]} |" for name in columns)
    return "\n".join(("| column | meaning |", "|---|---|", *rows))


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _list(names: set[str]) -> str:
    shown = [code(name) for name in sorted(names)[:_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
