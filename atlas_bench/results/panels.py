"""Summaries -> panels: tables of models x lengths, with effective lengths and ranks.

    panel = panels(latest(summaries), threshold=0.8)[0]     # babilong:qa1, scorer babilong/official version 1
    panel.rows[0].cells[10_000_000].score               # 24 of 24

A panel holds only records that compare: one version of task and scorer, one choice of data. A cell pools the seeds of a
model; of several records of a seed the one with the most questions counts. The effective length of a model is the
longest length whose lower bound (95 %) reaches the threshold. docs/method.md states the rule for ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

from atlas_bench.results.naming import natural
from atlas_bench.results.record import Record
from atlas_bench.results.score import Score, mean_metrics, total
from atlas_bench.results.summary import Summary

USUAL = ("generated", "bare")  # choices of data and prompt

_IDENTITY = attrgetter("task", "task_version", "subset", "length", "model", "weights_hash", "seed", "samples")


@dataclass(frozen=True)
class Cell:
    """One model at one length.

    counted  summaries of the seeds that have a score, one for each seed
    without  summaries of the seeds that have none: out of memory, failed, ..
    """

    counted: tuple[Summary, ...]
    without: tuple[Summary, ...]

    @classmethod
    def of(cls, summaries: Sequence[Summary]) -> Cell:
        """The cell of some summaries, one for each seed."""
        counted, without = (tuple(s for s in summaries if (s.record.status == "ok") == ok) for ok in (True, False))
        return cls(counted, without)

    @property
    def all(self) -> tuple[Summary, ...]:
        return (*self.counted, *self.without)

    @property
    def status(self) -> str:
        """'ok' where a seed has a score; else why the last seed has none."""
        return "ok" if self.counted else self.without[-1].record.status

    @cached_property
    def score(self) -> Score:
        """The score of all seeds together."""
        return total(each.headline for each in self.counted)

    @property
    def correct(self) -> float:
        return self.score.correct

    @property
    def n(self) -> int:
        return self.score.n

    @property
    def accuracy(self) -> float | None:
        return self.score.accuracy

    @cached_property
    def interval(self) -> tuple[float, float]:
        return self.score.interval

    @property
    def contexts(self) -> int:
        """Independent contexts, fewer than n where questions share them; n for records without answers."""
        return sum(each.contexts or each.headline.n for each in self.counted)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics that are no score (nats per token, ..), as means over the seeds."""
        return mean_metrics([each.record for each in self.counted]) if self.counted else {}


@dataclass(frozen=True)
class Row:
    """One model and its cells by length; `model` names the weights too where several models share a name."""

    model: str
    cells: dict[int, Cell]
    effective: int | None = None
    rank: int | None = None

    @cached_property
    def scored(self) -> dict[int, Cell]:
        """The cells with at least one answer."""
        return {length: cell for length, cell in self.cells.items() if cell.n}

    @property
    def last(self) -> tuple[int, float]:
        """(length, accuracy) at the longest length with a score."""
        return max(((length, cell.correct / cell.n) for length, cell in self.scored.items()), default=(0, 0.0))


@dataclass(frozen=True)
class Panel:
    """Models x lengths of one subset, one version of task and scorer, one choice of data."""

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
        """The choices of data and prompt that differ from the defaults: ', data data/babi'."""
        return "".join(f", {name} {value}" for name, value in self.options.items() if value not in USUAL)

    @property
    def title(self) -> str:
        """'babilong:qa1, data data/babi'"""
        return self.name + self.unusual

    @property
    def terms(self) -> tuple[Any, ...]:
        """What is equal in two panels whose numbers compare: task, versions, choice of data."""
        return self.task, self.task_version, self.scorer, self.scorer_version, _options(self.options)

    def places(self) -> Iterator[tuple[Row, int, Cell]]:
        """(row, length, cell) of each cell."""
        return ((row, length, cell) for row in self.rows for length, cell in row.cells.items())

    @property
    def cells(self) -> list[Cell]:
        return [cell for _, _, cell in self.places()]


def latest(summaries: Iterable[Summary]) -> list[Summary]:
    """One summary for each cell, in order of first appearance: an `ok` one before others, then the last to end."""
    summaries = list(summaries)
    kept = {_cell_key(each.record): each for each in sorted(summaries, key=_standing)}
    return [kept[key] for key in dict.fromkeys(_cell_key(each.record) for each in summaries)]


def panels(summaries: Sequence[Summary], threshold: float) -> list[Panel]:
    """All panels, by task and subset.

    summaries  one for each cell, as latest() returns them
    threshold  in 0..1, which the lower bound at an effective length reaches
    """
    groups: dict[tuple[str, ...], list[Summary]] = defaultdict(list)
    for each in summaries:
        if each.record.status == "ok":
            groups[_panel_key(each.record)].append(each)
    scored = {key[:part]: key for key in sorted(groups) for part in (4, 5)}  # of several scorers the last
    for each in summaries:
        if each.record.status != "ok":  # it may name no scorer, or no version
            key = _panel_key(each.record)
            groups[key if key[-1] else scored.get(key[:5]) or scored.get(key[:4], key)].append(each)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], natural(item[0][1]), -len(item[1]), item[0]))
    return [_panel(group, threshold) for _, group in ordered]


def _cell_key(record: Record) -> tuple[Any, ...]:
    """What is equal in two records of one cell."""
    return *_IDENTITY(record), _options(record.options)


def _options(options: Mapping[str, Any]) -> str:
    return repr(sorted(options.items()))


def _standing(each: Summary) -> tuple[bool, str]:
    return each.record.status == "ok", each.record.ended or each.record.started or ""


def _panel_key(record: Record) -> tuple[str, ...]:
    version = record.scorer_version.get(record.headline or "", "")
    return record.task, record.subset, _options(record.options), record.task_version, record.headline or "", version


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
    """The cell of some summaries: of each seed the one with a score on the most questions, else the last one."""
    seeds = {each.record.seed: each for each in sorted(group, key=_weight)}
    return Cell.of([seeds[seed] for seed in sorted(seeds)])


def _weight(each: Summary) -> tuple[bool, int, int]:
    return each.record.status == "ok", each.headline.n, each.record.samples


def _ranked(rows: Iterable[Row], threshold: float) -> list[Row]:
    """Rows with ranks, in their order; equal ranks by effective length, then by the score at the longest length."""
    rows = [replace(row, effective=_effective(row, threshold)) for row in sorted(rows, key=lambda row: row.model)]
    rows.sort(key=lambda row: (-1 if row.effective is None else row.effective, *row.last), reverse=True)
    ranked = [replace(row, rank=_rank(row, [other for other in rows if other is not row])) for row in rows]
    return sorted(ranked, key=lambda row: (not row.scored, row.rank is None, row.rank or 0))


def _rank(row: Row, others: Iterable[Row]) -> int | None:
    """1 + the number of models above; None without a score, or where no other model has one at the same length."""
    rivals = [other for other in others if other.scored]
    if not row.scored or (rivals and not any(row.scored.keys() & other.scored.keys() for other in rivals)):
        return None
    return 1 + sum(above(other, row) for other in rivals)


def above(a: Row, b: Row) -> bool:
    """Whether at a length of both a's interval lies wholly above b's, and at none b's above a's."""
    pairs = [(a.scored[length].interval, b.scored[length].interval) for length in a.scored.keys() & b.scored.keys()]
    wins, losses = any(x[0] > y[1] for x, y in pairs), any(y[0] > x[1] for x, y in pairs)
    return wins and not losses


def _effective(row: Row, threshold: float) -> int | None:
    return max((length for length, cell in row.scored.items() if cell.interval[0] >= threshold), default=None)


def shade(accuracy: float, chance: float | None) -> float:
    """Where a score stands between chance (0; also for scores below it) and perfect (1)."""
    floor = chance or 0.0
    return max(0.0, (accuracy - floor) / (1 - floor)) if floor < 1 else 1.0
