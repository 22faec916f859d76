"""Summaries -> a leaderboard: panels of models x lengths, and one tidy table of all records.

    board = make(summaries(store.scan(["results"], warn)), threshold=0.8)
    board.frame[board.frame.headline].pivot_table("accuracy", ["task", "subset", "model"], "length")
    panel = board.panels[0]                    # babilong:qa1, scorer babilong/official version 1
    heads, rows = table(panel, labels.sentence)     # the panel as texts

COLUMNS is the only place where a column is defined. Every column is in CSV and in `atlas_bench.load`. A column with a
heading is in all other forms too, before the lengths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas_bench.results.panels import Cell, Panel, Row, latest, panels
from atlas_bench.results.record import Record
from atlas_bench.results.summary import Summary
from atlas_bench.units import format_length

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.8
TEXT, COUNT, NUMBER, FLAG = "string", "Int64", "float64", "boolean"  # of pandas; each can be missing


class Entry(NamedTuple):
    """A row of the table: a record, one of its scorers, and the panel's row that counts the record.

    score  as Summary.score() returns it; empty where the record has none
    row    None where no panel counts the record, because another one of its seed has more questions
    """

    summary: Summary
    scorer: str | None
    score: Mapping[str, Any]
    row: Row | None

    @property
    def record(self) -> Record:
        return self.summary.record


class Column(NamedTuple):
    """A column of the table.

    dtype    of pandas
    meaning  for the documentation
    value    makes the value, None where it is missing; by default it is the record's field of the column's name
    heading  in tables for readers; empty where they leave the column out
    show     makes the text in these tables
    missing  the text there for a model that has a score and no value
    """

    dtype: str
    meaning: str
    value: Callable[[Entry], Any] | None = None
    heading: str = ""
    show: Callable[[Any], str] = str
    missing: str = ""


def _metrics(entry: Entry) -> str | None:
    record = entry.record
    return json.dumps(record.metrics) if record.status == "ok" and record.metrics else None


# fmt: off
COLUMNS = {
    "kind": Column(TEXT, "`measured`; or `quoted`, `derived`: others' numbers, in CSV alone", lambda _: "measured"),
    "source": Column(TEXT, "key of the source of others' numbers", lambda _: None),
    "rank": Column(
        COUNT, "of the model in its panel, all seeds together", lambda e: e.row and e.row.rank, "rank", missing="-"
    ),
    "row": Column(
        TEXT, "model, with its weights where several share the name", lambda e: e.row and e.row.model, "model"
    ),
    "effective_length": Column(
        COUNT, "longest whose lower bound reaches the threshold", lambda e: e.row and e.row.effective,
        "effective", format_length, "-",
    ),
    "task": Column(TEXT, "what was asked"),
    "subset": Column(TEXT, "of the task, empty where it has none"),
    "task_version": Column(TEXT, "numbers of two versions do not compare"),
    "options": Column(TEXT, "choices of data, as JSON", lambda e: json.dumps(e.record.options, sort_keys=True)),
    "length": Column(COUNT, "tokens of the whole prompt"),
    "model": Column(TEXT, "as the run called it"),
    "weights_hash": Column(TEXT, "of the model's weights"),
    "seed": Column(COUNT, "that the samples are made from"),
    "samples": Column(COUNT, "questions that were to be asked"),
    "data": Column(TEXT, "`generated`, `hub`, or a folder", lambda e: e.record.options.get("data")),
    "background": Column(TEXT, "`generated`, `pg19`, or a folder", lambda e: e.record.options.get("background")),
    "prompt": Column(TEXT, "`bare` or `official`", lambda e: e.record.options.get("prompt")),
    "status": Column(TEXT, "`ok`, or why there is no score"),
    "reason": Column(TEXT, "for a status that is not `ok`"),
    "note": Column(TEXT, "such as: the model was never trained for this", lambda e: e.record.note or ""),
    "scorer": Column(TEXT, "its name; missing where the task has none", lambda e: e.scorer),
    "scorer_version": Column(TEXT, "numbers of two versions do not compare", lambda e: e.score.get("version")),
    "headline": Column(
        FLAG, "whether reports show this scorer: keep these, or count twice", lambda e: e.scorer == e.record.headline
    ),
    "correct": Column(NUMBER, "right answers; with partial credit their sum", lambda e: e.score.get("correct")),
    "n": Column(COUNT, "answers that were judged", lambda e: e.score.get("n")),
    "accuracy": Column(NUMBER, "correct / n, in 0..1", lambda e: e.score.get("accuracy")),
    "low": Column(NUMBER, "lower end of the 95 % interval", lambda e: e.score.get("low")),
    "high": Column(NUMBER, "upper end", lambda e: e.score.get("high")),
    "contexts": Column(COUNT, "independent contexts that the questions share", lambda e: e.summary.contexts or None),
    "design_effect": Column(NUMBER, "how sharing contexts widens the interval", lambda e: e.score.get("design_effect")),
    "chance": Column(NUMBER, "score of the best answer without reading"),
    "metrics": Column(TEXT, "what is no score, as JSON", _metrics),
    "nats_per_token": Column(
        NUMBER, "mean loss, where a loss is measured", lambda e: e.record.metrics.get("nats_per_token")
    ),
    "next_token_accuracy": Column(
        NUMBER, "share of likeliest tokens, there too", lambda e: e.record.metrics.get("next_token_accuracy")
    ),
    "tokens_read": Column(COUNT, "by the model, over all streams"),
    "seconds": Column(NUMBER, "that the run took"),
    "tokens_per_second": Column(NUMBER, "over all streams"),
    "state_bytes": Column(COUNT, "of one stream's state"),
    "peak_rss_bytes": Column(COUNT, "of the process's memory"),
    "parameters": Column(COUNT, "of the model"),
    "training_tokens": Column(COUNT, "that it was trained on"),
    "memory": Column(TEXT, "variant, such as `titans`"),
    "device": Column(TEXT, "`cpu`, `cuda` or `server`"),
    "kernel": Column(TEXT, "that ran"),
    "products": Column(TEXT, "precision of matrix products"),
    "started": Column(TEXT, "UTC, ISO 8601"),
    "date": Column(TEXT, "when the record was written", lambda e: e.record.ended or e.record.started),
    "command": Column(TEXT, "what was typed, or the call from Python"),
}
# fmt: on


@dataclass(frozen=True)
class Leaderboard:
    """All panels, by task and subset, and the summaries that they are made of.

    older  summaries of cells that have a newer one; no panel counts them
    """

    panels: tuple[Panel, ...]
    summaries: tuple[Summary, ...]
    threshold: float
    older: tuple[Summary, ...] = ()

    @property
    def cells(self) -> Iterator[Cell]:
        return (cell for panel in self.panels for cell in panel.cells)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One tidy table: a row for each record and scorer, by panel; last the records that no panel counts."""
        import pandas as pd

        rows = [row for panel in self.panels for row in panel.rows]
        counted = [(each, row) for row in rows for cell in row.cells.values() for each in cell.all]
        known = {id(each) for each, _ in counted}
        others = [(each, None) for each in self.summaries if id(each) not in known]
        found = [entry for each, row in (*counted, *others) for entry in entries(each, row)]
        columns = {name: [_storable(_value(name, entry)) for entry in found] for name in COLUMNS}
        return pd.DataFrame({name: pd.Series(values, dtype=COLUMNS[name].dtype) for name, values in columns.items()})


def headed() -> list[str]:
    """The names of the columns that tables for readers show."""
    return [name for name, column in COLUMNS.items() if column.heading]


def entries(summary: Summary, row: Row | None) -> list[Entry]:
    """A record's rows of the table: one for each scorer, or a single one where the record has no score."""
    record = summary.record
    if record.status != "ok" or not record.scores:
        return [Entry(summary, record.headline, {}, row)]
    return [Entry(summary, name, summary.score(name), row) for name in record.scores]


def _value(name: str, entry: Entry) -> Any:
    value = COLUMNS[name].value
    return value(entry) if value else getattr(entry.record, name)


def _storable(value: Any) -> Any:
    """The value; in a text half a surrogate pair, which a column of texts cannot hold, becomes an escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def make(summaries: Iterable[Summary], *, threshold: float = THRESHOLD) -> Leaderboard:
    """The leaderboard of some summaries.

    summaries  in any order; of several for one cell the latest counts, an `ok` one before others
    threshold  in 0..1, which the lower bound at an effective length reaches
    """
    summaries = list(summaries)
    kept = latest(summaries)
    known = {id(each) for each in kept}
    older = tuple(each for each in summaries if id(each) not in known)
    return Leaderboard(tuple(panels(kept, threshold)), tuple(kept), threshold, older)


def table(panel: Panel, text: Callable[[Cell | None, Panel], str]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of a panel for readers: the columns with a heading, then one for each length.

    text  makes the text of a cell, and of None where nothing was run
    """
    heads = [COLUMNS[name].heading for name in headed()] + [format_length(length) for length in panel.lengths]
    rows = [
        [shown(row, name) for name in headed()] + [text(row.cells.get(length), panel) for length in panel.lengths]
        for row in panel.rows
    ]
    return heads, rows


def shown(row: Row, name: str) -> str:
    """A column's value for a row of a panel, as tables for readers show it."""
    if (found := value(row, name)) is not None:
        return COLUMNS[name].show(found)
    return COLUMNS[name].missing if row.scored else ""


def value(row: Row, name: str) -> Any:
    """A column's value for a row of a panel, by the headline's scorer, at the longest length that has a value."""
    for length in sorted(row.cells, reverse=True):
        for each in row.cells[length].all:
            made = entries(each, row)
            entry = next((entry for entry in made if entry.scorer == entry.record.headline), made[0])
            if (found := _value(name, entry)) is not None:
                return found
    return None
