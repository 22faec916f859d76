"""A board for programs: as CSV, a row for each score; as JSON, nested like the board. docs/report.md has every field.

pandas.read_csv(io.StringIO(table(board, words.beside(board)))).query("kind == 'measured' and headline")
json.loads(nested(board, []))["panels"][0]["rows"][0]["cells"][0]["accuracy"]
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any
from unicodedata import normalize

from atlas_bench.results import curves, published
from atlas_bench.results.board import Board, Cell, Panel, Row
from atlas_bench.results.curves import Grid
from atlas_bench.results.digest import Digest
from atlas_bench.results.forms import words
from atlas_bench.results.record import Record
from atlas_bench.results.score import UNKNOWN, scored
from atlas_bench.results.stats import Spread
from atlas_bench.results.table import printable

VERSION = 1  # of the JSON form; raised when a key changes its meaning or goes

_NUMBERS = ("correct", "n", "accuracy", "low", "high", "design_effect")
_COSTS = (
    "parameters", "state_bytes", "training_tokens", "tokens_per_second", "seconds", "peak_rss_bytes",
    "device", "kernel", "products",
)  # fmt: skip
COLUMNS = (
    "kind", "source", "task", "subset", "task_version", "options", "model", "weights_hash", "seed", "length",
    "status", "reason", "scorer", "scorer_version", "headline", *_NUMBERS, "chance", "contexts", "metrics",
    "effective_length", "rank", *_COSTS, "date", "command", "note",
)  # fmt: skip
_ABOVE = {"answers", "task", "subset", "task_version", "options", "length", "headline", "chance", "scores"}
_RECORD = tuple(f.name for f in fields(Record) if f.name not in _ABOVE)  # of a record, what its panel does not say
_costs, _said = attrgetter(*_COSTS), attrgetter(*_RECORD)
_FORMULA = ("=", "+", "-", "\u2212", "@")  # what a spreadsheet would run


def table(board: Board, found: Sequence[words.Beside], *, title: str = "", command: str = "") -> str:
    """The board as CSV: a row for each model, length, seed and scorer, then a row for each number of others.

    found  what others published, from words.beside(); title and command have no place in a table
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for panel in board.panels:
        options = json.dumps(panel.options, sort_keys=True)
        asked = _harmless(("measured", "", panel.task, panel.subset, panel.task_version, options))
        for row in panel.rows:
            for cell in row.cells.values():
                for each in chain(cell.counted, cell.without):
                    writer.writerows([*asked, *said] for said in _measured(row, each))
    for each in found:
        writer.writerows(_published(each, row) for row in each.rows)
    return out.getvalue()


def _measured(row: Row, each: Digest) -> Iterator[list[Any]]:
    """A record's rows from `model` on: one for each scorer, or one with blanks where it has no score."""
    record = each.record
    scored = record.status == "ok"
    cell = _harmless((record.model, record.weights_hash, record.seed, record.length, record.status, record.reason))
    rest = _harmless((
        record.chance, each.contexts or None, json.dumps(record.metrics) if scored and record.metrics else None,
        row.effective, row.rank, *_costs(record), record.ended or record.started, record.command, record.note or "",
    ))  # fmt: skip
    for name in (record.scores if scored else ()) or (record.headline,):
        score = _score(each, name) if scored and name in record.scores else {}
        told = _harmless((name, score.get("version"), "true" if name == record.headline else "false"))
        yield [*cell, *told, *map(score.get, _NUMBERS), *rest]


def _published(beside: words.Beside, row: published.Published) -> list[Any]:
    """A published number's row: what its source does not say stays blank."""
    task, _, subset = beside.name.partition(":")
    said = {
        "kind": row.kind, "source": row.source, "task": task, "subset": subset, "model": row.model,
        "length": row.length, "accuracy": round(row.value / 100, 6), "note": row.note,
    }  # fmt: skip
    return _harmless([said.get(name) for name in COLUMNS])


def _score(each: Digest, name: str) -> dict[str, Any]:
    """One scorer's count with its interval; nothing but the count where nothing was answered."""
    record = each.record
    correct, n = record.scores[name]["correct"], record.scores[name]["n"]
    told = {"version": record.scorer_version.get(name), "correct": correct, "n": n}
    return told | (_share(correct, n, each.spreads.get(name, UNKNOWN)) if n else {})


@lru_cache(maxsize=10_000)
def _share(correct: float, n: int, spread: Spread) -> dict[str, float | None]:
    found = scored(correct, n, spread)
    named = ("accuracy", "low", "high", "design_effect")
    return {name: None if found[name] is None else round(found[name], 6) for name in named}


def _harmless(row: Sequence[Any]) -> list[Any]:
    """Texts on one line, without control characters, and none that a spreadsheet would take for a formula."""
    return [_text(value) if type(value) is str else value for value in row]


@lru_cache(maxsize=10_000)
def _text(value: str) -> str:
    shown = value if value.isprintable() else printable(value, False)
    # spreadsheets pass over blanks, and read the full-width sign (U+FF1D and its like) as the sign
    return f"'{shown}" if normalize("NFKC", shown).lstrip().startswith(_FORMULA) else shown


def nested(board: Board, found: Sequence[words.Beside], *, title: str = words.TITLE, command: str = "") -> str:
    """The board as JSON, a line for each model; every field of a record but its answers, of which examples remain."""
    head = {
        "version": VERSION, "title": title, "command": command, "threshold": board.threshold,
        "records": len(board.digests),
    }  # fmt: skip
    quoted = [{"task": each.name, **asdict(row)} for each in found for row in each.rows]
    sources = {row["source"]: asdict(published.SOURCES[row["source"]]) for row in quoted}
    foot = {"published": quoted, "sources": sources, "caveat": published.CAVEAT if quoted else ""}
    grids = ([_dump(_grid(grid))] for grid in curves.grids(board))
    pieces = chain(
        _with(head, "panels", map(_panel, board.panels)), [', "grids": ['], _listed(grids), ["], "], [_dump(foot)[1:]]
    )
    return "".join(pieces) + "\n"


def _panel(panel: Panel) -> Iterator[str]:
    named = ("task", "subset", "task_version", "scorer", "scorer_version", "options", "chance", "lengths")
    yield from _with({name: getattr(panel, name) for name in named}, "rows", ([_dump(_row(row))] for row in panel.rows))
    yield "}"


def _row(row: Row) -> dict[str, Any]:
    cells = [_cell(length, cell) for length, cell in row.cells.items()]
    return {"model": row.model, "rank": row.rank, "effective_length": row.effective, "cells": cells}


def _cell(length: int, cell: Cell) -> dict[str, Any]:
    """The seeds of a cell taken together, then each; null where there is no score."""
    low, high = cell.interval if cell.n else (None, None)
    scored = bool(cell.counted)
    return {
        "length": length,
        "status": cell.status,
        "correct": cell.correct if scored else None,
        "n": cell.n if scored else None,
        "accuracy": cell.accuracy,
        "low": low,
        "high": high,
        "contexts": cell.contexts if scored else None,
        "design_effect": cell.design_effect if scored else None,
        "metrics": cell.metrics,
        "records": [_record(each) for each in chain(cell.counted, cell.without)],
    }


def _record(each: Digest) -> dict[str, Any]:
    record = each.record
    scores = {name: _score(each, name) for name in record.scores}
    said = dict(zip(_RECORD, _said(record), strict=True))
    return said | {"scores": scores, "contexts": each.contexts, "right": each.right, "wrong": each.wrong}


def _grid(grid: Grid) -> dict[str, Any]:
    cells = [
        {"row": row, "column": column, "text": text, "value": grid.values.get((row, column))}
        for (row, column), text in grid.cells.items()
    ]
    named = ("kind", "title", "corner", "rows", "columns", "chance")
    return {name: getattr(grid, name) for name in named} | {"cells": cells}


def _with(head: dict[str, Any], name: str, items: Iterable[Iterable[str]]) -> Iterator[str]:
    """The pieces of an object that ends in a list, still open behind it: the whole in objects would take 1 GB more."""
    yield f'{_dump(head)[:-1]}, "{name}": ['
    yield from _listed(items)
    yield "]"


def _listed(items: Iterable[Iterable[str]]) -> Iterator[str]:
    """The pieces of a list's items, each item on lines of its own."""
    for i, item in enumerate(items):
        yield ",\n" if i else "\n"
        yield from item


def _dump(value: Any) -> str:
    """JSON on one line; a number beyond a float's range, which JSON may hold and cannot say, becomes null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None))
