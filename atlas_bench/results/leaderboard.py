"""Summaries -> a leaderboard: one tidy table, and for each task and subset a panel of models x lengths of it.

    board = make(summaries(store.scan(["results"], warn)), threshold=0.8)
    board.frame[board.frame.headline].pivot_table("accuracy", ["task", "subset", "model"], "length")
    panel = board.panels[0]                    # babilong:qa1, scorer babilong/official version 1
    cell = panel.rows[0].cells[10_000_000]     # 24 of 24, 86 to 100 % in 95 % of the cases
    panel.table(labels.sentence)               # the panel as texts, a DataFrame that every form writes

COLUMNS is the only place where a column is defined: its name, how it is computed, and how it is shown. Every column is
in CSV and in `atlas_bench.load`; one with a heading is in all other forms too, in tables before the lengths.

A panel holds only what compares: one version of task and scorer, one choice of data. A cell takes the seeds of a model
together, each seed once, by its record with the most questions. *Effective length* is the longest length whose lower
bound (95 %) reaches the threshold: what the answers prove, so that few questions prove little. Rows are ordered by it.
Models share a rank unless the best model of the rank above has an interval entirely above theirs, at the longest length
at which both have a score.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas_bench.results.labels import natural
from atlas_bench.results.record import Record
from atlas_bench.results.stats import Spread, design_effect, interval, together
from atlas_bench.results.summary import Summary
from atlas_bench.units import format_length

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.8
USUAL = ("generated", "bare")  # choices of data and prompt
TEXT, COUNT, NUMBER, FLAG = "string", "Int64", "float64", "boolean"  # of pandas; each can be missing

_asked = attrgetter("task", "task_version", "subset", "length", "model", "weights_hash", "seed", "samples")


class Entry(NamedTuple):
    """What a row of the frame is made of: a record, one of its scorers with its score, and its row of a panel.

    score  of Summary.score(); empty where the record has none
    row    None where no panel counts the record: another of its seed has more questions
    """

    summary: Summary
    scorer: str | None
    score: Mapping[str, Any]
    row: Row | None

    @property
    def record(self) -> Record:
        return self.summary.record


class Column(NamedTuple):
    """A column of the frame.

    dtype    of pandas
    meaning  for the documentation
    value    its value in a row; None is missing
    heading  of the column in tables for readers; empty: it is not in them
    show     its value as text there
    missing  the text of a scored model that has no value
    """

    dtype: str
    meaning: str
    value: Callable[[Entry], Any]
    heading: str = ""
    show: Callable[[Any], str] = str
    missing: str = ""


def _of(name: str) -> Callable[[Entry], Any]:
    """A field of the record."""
    return lambda entry: getattr(entry.record, name)


def _option(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.record.options.get(name)


def _score(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.score.get(name)


def _metric(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.record.metrics.get(name)


def _row(name: str) -> Callable[[Entry], Any]:
    """What the record's row of a panel says."""
    return lambda entry: getattr(entry.row, name, None)


def _metrics(entry: Entry) -> str | None:
    record = entry.record
    return json.dumps(record.metrics) if record.status == "ok" and record.metrics else None


COLUMNS = {
    "kind": Column(TEXT, "`measured`; or `quoted`, `derived`: others' numbers, in CSV alone", lambda _: "measured"),
    "source": Column(TEXT, "key of the source of others' numbers", lambda _: None),
    "rank": Column(COUNT, "of the model in its panel, all seeds together", _row("rank"), "rank"),
    "row": Column(TEXT, "model, with its weights where several share the name", _row("model"), "model"),
    "effective_length": Column(
        COUNT, "longest whose lower bound reaches the threshold", _row("effective"), "effective", format_length, "-"
    ),
    "task": Column(TEXT, "what was asked", _of("task")),
    "subset": Column(TEXT, "of the task, empty where it has none", _of("subset")),
    "task_version": Column(TEXT, "numbers of two versions do not compare", _of("task_version")),
    "options": Column(TEXT, "choices of data, as JSON", lambda e: json.dumps(e.record.options, sort_keys=True)),
    "length": Column(COUNT, "tokens of the whole prompt", _of("length")),
    "model": Column(TEXT, "as the run called it", _of("model")),
    "weights_hash": Column(TEXT, "of the model's weights", _of("weights_hash")),
    "seed": Column(COUNT, "that the samples are made from", _of("seed")),
    "samples": Column(COUNT, "questions that were to be asked", _of("samples")),
    "data": Column(TEXT, "`generated`, `hub`, or a folder", _option("data")),
    "background": Column(TEXT, "`generated`, `pg19`, or a folder", _option("background")),
    "prompt": Column(TEXT, "`bare` or `official`", _option("prompt")),
    "status": Column(TEXT, "`ok`, or why there is no score", _of("status")),
    "reason": Column(TEXT, "for a status that is not `ok`", _of("reason")),
    "note": Column(TEXT, "such as: the model was never trained for this", lambda e: e.record.note or ""),
    "scorer": Column(TEXT, "its name; missing where the task has none", lambda e: e.scorer),
    "scorer_version": Column(TEXT, "numbers of two versions do not compare", _score("version")),
    "headline": Column(
        FLAG, "whether reports show this scorer: keep these, or count twice", lambda e: e.scorer == e.record.headline
    ),
    "correct": Column(NUMBER, "right answers; with partial credit their sum", _score("correct")),
    "n": Column(COUNT, "answers that were judged", _score("n")),
    "accuracy": Column(NUMBER, "correct / n, in 0..1", _score("accuracy")),
    "low": Column(NUMBER, "lower end of the 95 % interval", _score("low")),
    "high": Column(NUMBER, "upper end", _score("high")),
    "contexts": Column(COUNT, "independent contexts that the questions share", lambda e: e.summary.contexts or None),
    "design_effect": Column(NUMBER, "how sharing contexts widens the interval", _score("design_effect")),
    "chance": Column(NUMBER, "score of the best answer without reading", _of("chance")),
    "metrics": Column(TEXT, "what is no score, as JSON", _metrics),
    "nats_per_token": Column(NUMBER, "mean loss, where a loss is measured", _metric("nats_per_token")),
    "next_token_accuracy": Column(NUMBER, "share of likeliest tokens, there too", _metric("next_token_accuracy")),
    "tokens_read": Column(COUNT, "by the model, over all streams", _of("tokens_read")),
    "seconds": Column(NUMBER, "that the run took", _of("seconds")),
    "tokens_per_second": Column(NUMBER, "over all streams", _of("tokens_per_second")),
    "state_bytes": Column(COUNT, "of one stream's state", _of("state_bytes")),
    "peak_rss_bytes": Column(COUNT, "of the process's memory", _of("peak_rss_bytes")),
    "parameters": Column(COUNT, "of the model", _of("parameters")),
    "training_tokens": Column(COUNT, "that it was trained on", _of("training_tokens")),
    "memory": Column(TEXT, "variant, such as `titans`", _of("memory")),
    "device": Column(TEXT, "`cpu`, `cuda` or `server`", _of("device")),
    "kernel": Column(TEXT, "that ran", _of("kernel")),
    "products": Column(TEXT, "precision of matrix products", _of("products")),
    "started": Column(TEXT, "UTC, ISO 8601", _of("started")),
    "date": Column(TEXT, "when the record was written", lambda e: e.record.ended or e.record.started),
    "command": Column(TEXT, "what was typed, or the call from Python", _of("command")),
}


@dataclass(frozen=True)
class Cell:
    """One model at one length.

    counted  summaries of the seeds that have a score, one each; empty where none has
    without  summaries of the seeds that have none: out of memory, failed, ..
    """

    counted: tuple[Summary, ...]
    without: tuple[Summary, ...]

    @property
    def all(self) -> tuple[Summary, ...]:
        return (*self.counted, *self.without)

    @property
    def status(self) -> str:
        """'ok' where there is a score; else why there is none."""
        return "ok" if self.counted else self.without[-1].record.status

    @cached_property
    def correct(self) -> float:
        """Right answers, or the sum of their shares."""
        return sum(each.headline()["correct"] for each in self.counted)

    @cached_property
    def n(self) -> int:
        """Questions answered."""
        return sum(each.headline()["n"] for each in self.counted)

    @property
    def accuracy(self) -> float | None:
        """In 0..1; None without an answer."""
        return self.correct / self.n if self.n else None

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, over contexts where questions share them; (0, 1) without an answer."""
        return interval(self.correct, self.n, self._spread)

    @property
    def design_effect(self) -> float | None:
        """How many times the variance of independent answers the score's is; None where questions share no context."""
        return design_effect(self.correct, self.n, self._spread) if self.contexts < self.n else None

    @cached_property
    def _spread(self) -> Spread:
        return together(each.spreads.get(each.record.headline or "", Spread()) for each in self.counted)

    @property
    def contexts(self) -> int:
        """Independent contexts; fewer than n where questions share them, which a record without answers cannot say."""
        return sum(each.contexts or each.headline()["n"] for each in self.counted)

    @property
    def metrics(self) -> dict[str, float]:
        """What is no score (nats per token, ..): the mean over the seeds of what all of them have."""
        found = [each.record.metrics for each in self.counted]
        names = [name for name in found[0] if all(each.get(name) is not None for each in found)] if found else []
        return {name: fmean(each[name] for each in found) for name in names}


@dataclass(frozen=True)
class Row:
    """One model; a tag names its weights where several share its name."""

    model: str
    cells: dict[int, Cell]
    effective: int | None = None
    rank: int | None = None

    def value(self, column: Column) -> Any:
        """A column's value for the row: that of the longest length which has one, of its first seed."""
        ordered = (each for length in sorted(self.cells, reverse=True) for each in self.cells[length].all)
        found = (column.value(entry) for each in ordered for entry in entries(each, self)[:1])
        return next((value for value in found if value is not None), None)

    def text(self, column: Column) -> str:
        """The same as tables for readers show it."""
        if (value := self.value(column)) is not None:
            return column.show(value)
        return column.missing if any(cell.n for cell in self.cells.values()) else ""


@dataclass(frozen=True)
class Panel:
    """What compares: models x lengths of one subset, version of task and scorer, and choice of data."""

    task: str
    subset: str
    task_version: str
    scorer: str | None
    scorer_version: str | None
    options: dict[str, Any]
    chance: float | None
    lengths: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        return f"{self.task}:{self.subset}" if self.subset else self.task

    @property
    def unusual(self) -> str:
        """', data data/babi': the choices that are not the usual ones; behind the name it is a title."""
        return "".join(f", {name} {value}" for name, value in self.options.items() if value not in USUAL)

    @property
    def cells(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row.cells.values()]

    def table(self, text: Callable[[Cell | None, Panel], Any]) -> pd.DataFrame:
        """The panel for readers: the columns with a heading, then one for each length.

        text  what a cell says; None: nothing was run
        """
        import pandas as pd

        named = {column.heading: [row.text(column) for row in self.rows] for column in headed()}
        lengths = {
            format_length(length): [text(row.cells.get(length), self) for row in self.rows] for length in self.lengths
        }
        return pd.DataFrame(named | lengths, dtype=object)


@dataclass(frozen=True)
class Leaderboard:
    """All panels, by task and subset, and what they were made from.

    older  summaries that newer ones of the same cells took the place of; no panel counts them
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
        """A row for each record and scorer, in the order of the panels; last the records that no panel counts."""
        rows = [row for panel in self.panels for row in panel.rows]
        counted = [(each, row) for row in rows for cell in row.cells.values() for each in cell.all]
        known = {id(each) for each, _ in counted}
        others = [(each, None) for each in self.summaries if id(each) not in known]
        return to_frame(entry for each, row in (*counted, *others) for entry in entries(each, row))


def headed() -> list[Column]:
    """The columns that tables for readers have."""
    return [column for column in COLUMNS.values() if column.heading]


def entries(summary: Summary, row: Row | None) -> list[Entry]:
    """A record's rows of the frame: one for each scorer, the first one's first, or one where it has no score."""
    record = summary.record
    if record.status != "ok" or not record.scores:
        return [Entry(summary, record.headline, {}, row)]
    return [Entry(summary, name, summary.score(name), row) for name in record.scores]


def to_frame(found: Iterable[Entry]) -> pd.DataFrame:
    """The table of some entries, with the columns of COLUMNS."""
    import pandas as pd

    found = list(found)
    columns = {name: [_storable(column.value(entry)) for entry in found] for name, column in COLUMNS.items()}
    return pd.DataFrame({name: pd.Series(values, dtype=COLUMNS[name].dtype) for name, values in columns.items()})


def _storable(value: Any) -> Any:
    """Half a surrogate pair, which a column of texts cannot hold, as an escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def make(found: Iterable[Summary], *, threshold: float = THRESHOLD) -> Leaderboard:
    """The leaderboard of some summaries.

    found      in any order; of several for one cell the latest counts, an `ok` one before others
    threshold  in 0..1: what a lower bound must reach
    """
    found = list(found)
    latest = _latest(found)
    groups: dict[tuple[str, ...], list[Summary]] = defaultdict(list)
    for each in latest:
        if each.record.status == "ok":
            groups[_panel_key(each.record)].append(each)
    scored = {key[:part]: key for key in sorted(groups) for part in (4, 5)}  # of several scorers the last
    for each in latest:
        if each.record.status != "ok":  # it may name no scorer, or no version
            key = _panel_key(each.record)
            groups[key if key[-1] else scored.get(key[:5]) or scored.get(key[:4], key)].append(each)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], natural(item[0][1]), -len(item[1]), item[0]))
    kept = {id(each) for each in latest}
    older = tuple(each for each in found if id(each) not in kept)
    return Leaderboard(tuple(_panel(group, threshold) for _, group in ordered), tuple(latest), threshold, older)


def _options(record: Record) -> str:
    return repr(sorted(record.options.items()))


def _latest(found: Iterable[Summary]) -> list[Summary]:
    """One summary per cell, in order of first appearance: an `ok` one before others, then what ended last."""
    kept: dict[tuple[Any, ...], Summary] = {}
    for each in found:
        key = (*_asked(each.record), _options(each.record))
        if key not in kept or _standing(each.record) >= _standing(kept[key].record):
            kept[key] = each
    return list(kept.values())


def _standing(record: Record) -> tuple[bool, str]:
    return record.status == "ok", record.ended or record.started or ""


def _panel_key(record: Record) -> tuple[str, ...]:
    version = record.scorer_version.get(record.headline or "", "")
    return record.task, record.subset, _options(record), record.task_version, record.headline or "", version


def _panel(group: Sequence[Summary], threshold: float) -> Panel:
    first = next((each.record for each in group if each.record.status == "ok"), group[0].record)
    by_model: dict[tuple[str, str | None], dict[int, list[Summary]]] = defaultdict(lambda: defaultdict(list))
    for each in group:
        by_model[each.record.model, each.record.weights_hash][each.record.length].append(each)
    names = [model for model, _ in by_model]
    rows = [
        Row(
            f"{model} weights={(weights or '-')[:8]}" if names.count(model) > 1 else model,
            {length: _cell(lengths[length]) for length in sorted(lengths)},
        )
        for (model, weights), lengths in by_model.items()
    ]
    return Panel(
        first.task, first.subset, first.task_version, first.headline,
        first.scorer_version.get(first.headline or ""), first.options,
        next((each.record.chance for each in group if each.record.chance is not None), None),
        tuple(sorted({each.record.length for each in group})), tuple(_ranked(rows, threshold)),
    )  # fmt: skip


def _cell(group: Sequence[Summary]) -> Cell:
    """Each seed once: by its score on the most questions, or else by its last word."""
    seeds: dict[int, Summary] = {}
    for each in group:
        other = seeds.get(each.record.seed)
        if other is None or _weight(each) >= _weight(other):
            seeds[each.record.seed] = each
    ordered = [seeds[seed] for seed in sorted(seeds)]
    return Cell(
        tuple(each for each in ordered if each.record.status == "ok"),
        tuple(each for each in ordered if each.record.status != "ok"),
    )


def _weight(each: Summary) -> tuple[bool, int, int]:
    return each.record.status == "ok", each.headline()["n"], each.record.samples


def _ranked(rows: Iterable[Row], threshold: float) -> list[Row]:
    """Rows by effective length, then by the score at their longest length; ranks where intervals part them."""
    rows = sorted((replace(row, effective=_effective(row, threshold)) for row in rows), key=lambda row: row.model)
    rows.sort(key=lambda row: (-1 if row.effective is None else row.effective, *(_last(row) or (0, 0.0))), reverse=True)
    ranked: list[Row] = []
    leader: Row | None = None
    for place, row in enumerate(rows, start=1):
        rank = None
        if _last(row) is not None:
            same = leader is not None and not above(leader, row)
            rank = ranked[-1].rank if same else place
            leader = leader if same else row
        ranked.append(replace(row, rank=rank))
    return ranked


def above(a: Row, b: Row) -> bool:
    """Whether a's interval lies wholly above b's at the longest length at which both have a score."""
    common = [length for length in a.cells if a.cells[length].n and length in b.cells and b.cells[length].n]
    return bool(common) and a.cells[max(common)].interval[0] > b.cells[max(common)].interval[1]


def _effective(row: Row, threshold: float) -> int | None:
    reaching = [length for length, cell in row.cells.items() if cell.n and cell.interval[0] >= threshold]
    return max(reaching, default=None)


def _last(row: Row) -> tuple[int, float] | None:
    """(length, accuracy) of the longest length with a score."""
    scored = [(length, cell.accuracy) for length, cell in row.cells.items() if cell.accuracy is not None]
    return max(scored, default=None)


def shade(accuracy: float, chance: float | None) -> float:
    """Where a score stands between chance (0, and below) and perfect (1)."""
    floor = chance or 0.0
    return max(0.0, (accuracy - floor) / (1 - floor)) if floor < 1 else 1.0
