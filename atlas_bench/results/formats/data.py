"""A leaderboard for programs: as CSV, a row for each score, or as JSON, nested like the panels (docs/report.md).

pandas.read_csv(io.StringIO(table(board, beside))).query("kind == 'measured' and headline")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from atlas_bench.errors import printable
from atlas_bench.results import breakdowns, labels, reference
from atlas_bench.results.leaderboard import COLUMNS, FLAG, NUMBER, TEXT, Leaderboard, headed, value
from atlas_bench.results.panels import Cell, Panel, Row
from atlas_bench.results.record import FIELDS, finite
from atlas_bench.results.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # of the JSON
_ABOVE = {"answers", "task", "subset", "task_version", "options", "length", "headline", "chance", "scores"}
_RECORD = [name for name in FIELDS if name not in _ABOVE]  # of a record, what its panel does not say
_FORMULA = ("=", "+", "-", "\u2212", "@")  # what a spreadsheet would run


def table(board: Leaderboard, beside: Sequence[reference.Beside], *, title: str = "", command: str = "") -> str:
    """The table as CSV: a row for each model, length, seed and scorer, then a row for each number of others.

    beside          what others published, from reference.beside()
    title, command  are left out, as a table has no place for them
    """
    import pandas as pd

    measured = board.frame[board.frame.row.notna()]
    return pd.concat([_written(measured), _written(_published(beside))]).to_csv(index=False, lineterminator="\n")


def _written(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as texts: numbers with at most 6 decimals, missing values as they are."""
    shown: dict[str, Callable[[Any], str]] = {
        TEXT: _text, FLAG: lambda value: str(bool(value)).lower(),
        NUMBER: lambda value: f"{value:.6f}".rstrip("0").rstrip("."),
    }  # fmt: skip
    texts = frame.astype(object)
    return texts.apply(lambda own: own.map(shown.get(COLUMNS[str(own.name)].dtype, str), na_action="ignore"))


def _published(beside: Sequence[reference.Beside]) -> pd.DataFrame:
    """Others' numbers as rows of the frame, with missing values for what their source does not say."""
    import pandas as pd

    rows = [(*each.name.partition(":")[::2], row) for each in beside for row in each.rows]
    named = [
        {"task": task, "subset": subset, "accuracy": row.value / 100}
        | {name: getattr(row, name) for name in ("kind", "source", "model", "length", "note")}
        for task, subset, row in rows
    ]
    frame = pd.DataFrame(named, columns=list(COLUMNS))
    return frame.astype({name: column.dtype for name, column in COLUMNS.items()})


def _text(value: str) -> str:
    """The text on one line, with control characters as escapes, and a quote before what looks like a formula."""
    shown = printable(value, False)
    # spreadsheets pass over blanks, and read the full-width sign (U+FF1D and its like) as the sign
    return f"'{shown}" if normalize("NFKC", shown).lstrip().startswith(_FORMULA) else shown


def nested(
    board: Leaderboard, beside: Sequence[reference.Beside], *, title: str = labels.TITLE, command: str = ""
) -> str:
    """The leaderboard as JSON: every field of the records, but only examples of their answers."""
    quoted = [{"task": each.name, **row._asdict()} for each in beside for row in each.rows]
    report = {
        "version": VERSION, "title": title, "command": command, "threshold": board.threshold,
        "records": len(board.summaries),
        "panels": [_panel(panel) for panel in board.panels],
        "grids": [_grid(grid) for grid in breakdowns.grids(board)],
        "published": quoted,
        "sources": {row["source"]: reference.SOURCES[row["source"]]._asdict() for row in quoted},
        "caveat": reference.CAVEAT if quoted else "",
    }  # fmt: skip
    try:
        return json.dumps(report, allow_nan=False) + "\n"
    except ValueError:  # a file held 1e999, which is infinite as a float
        return json.dumps(finite(report)) + "\n"


def _panel(panel: Panel) -> dict[str, Any]:
    named = ("task", "subset", "task_version", "scorer", "scorer_version", "options", "chance", "lengths")
    return {name: getattr(panel, name) for name in named} | {"rows": [_row(row) for row in panel.rows]}


def _row(row: Row) -> dict[str, Any]:
    columns = {name: value(row, name) for name in headed() if name != "row"}
    return {"model": row.model, **columns, "cells": [_cell(length, cell) for length, cell in row.cells.items()]}


def _cell(length: int, cell: Cell) -> dict[str, Any]:
    """A cell: its score over all seeds, null where there is none, then the record of each seed."""
    score = cell.score.facts()
    if not cell.counted:
        score = dict.fromkeys(score)
    elif not cell.n:
        score |= {"low": None, "high": None}
    return {
        "length": length,
        "status": cell.status,
        **score | {"contexts": cell.contexts if cell.counted else None},
        "metrics": cell.metrics,
        "records": [_record(each) for each in cell.all],
    }


def _record(each: Summary) -> dict[str, Any]:
    fields = {name: getattr(each.record, name) for name in _RECORD}
    scores = {name: _rounded(each.score(name)) for name in each.record.scores}
    return fields | {"scores": scores, "contexts": each.contexts, "right": each.right, "wrong": each.wrong}


def _rounded(score: dict[str, Any]) -> dict[str, Any]:
    return score | {name: round(score[name], 6) for name in ("accuracy", "low", "high") if name in score}


def _grid(grid: breakdowns.Grid) -> dict[str, Any]:
    cells = [
        {"row": row, "column": column, "text": text, "value": grid.values.get((row, column))}
        for (row, column), text in grid.cells.items()
    ]
    named = ("kind", "title", "corner", "rows", "columns", "chance")
    return {name: getattr(grid, name) for name in named} | {"cells": cells}
