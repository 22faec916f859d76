"""Scores by depth, distance and dose, losses by position, and RULER's mean: small tables made from a leaderboard.

    niah:single, atlas-nano: % by needle depth, n = 9 a cell
    depth              4K            64K
       0 %    100 (70-100)    89 (57-98)
      10 %    100 (70-100)    78 (45-94)

A table appears for any task whose records have what it needs: `needle_depth` or `distance` in answers, subsets named
KIND-DOSE, the 13 subsets of RULER, a `curve`. Versions, data and weights stay apart, as in the panels.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.panels import Panel
from atlas_bench.results.record import clip
from atlas_bench.results.ruler_summary import TASKS, THRESHOLD, averages, effective_length, weighted_averages
from atlas_bench.results.score import Score, total
from atlas_bench.units import counted, format_length

FEW = 5  # answers: readers are not shown a table whose every cell has fewer
NAME_CHARS = 80  # of a model's or subset's name, which may be anyone's text


@dataclass(frozen=True)
class Grid:
    """A titled table.

    kind    "depth", "ruler", "distance", "age", "dose" or "loss"
    cells   (row, column) -> text; missing where nothing was asked
    values  (row, column) -> score in 0..1, where the text is one
    chance  of these scores
    most    answers in the fullest cell; None where the cells are no scores
    """

    kind: str
    title: str
    corner: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: dict[tuple[str, str], str]
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    chance: float | None = None
    most: int | None = None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(heads, rows) of texts."""
        rows = [[row, *(self.cells.get((row, column), "") for column in self.columns)] for row in self.rows]
        return [self.corner, *self.columns], rows


def telling(board: Leaderboard) -> tuple[list[Grid], str]:
    """(the tables with enough answers for readers, a sentence on those left out, empty if there are none)."""
    found = grids(board)
    kept = [grid for grid in found if grid.most is None or grid.most >= FEW]
    few = len(found) - len(kept)
    left_out = (
        f"Left out: {counted(few, 'breakdown')} with fewer than {FEW} answers in every cell; "
        "`atlas-bench report RECORDS --format json` has them."
    )
    return kept, left_out if few else ""


class _Part(NamedTuple):
    """A score that belongs in a cell of the grid of that kind and title; a cell pools all of its scores."""

    kind: str
    title: str
    row: Any
    column: Any
    score: Score


def grids(board: Leaderboard) -> list[Grid]:
    """All tables that the leaderboard has records for."""
    return [
        *_scored(board, _depths), *_ruler(board), *_scored(board, _distances), *_scored(board, _doses), *_losses(board),
    ]  # fmt: skip


def _depths(panel: Panel) -> Iterator[_Part]:
    """Depth x length of each panel and model."""
    for row, length, cell in panel.places():
        for tenth, score in chain.from_iterable(each.depths.items() for each in cell.counted):
            yield _Part("depth", f"{_title(panel)}, {_name(row.model)}: % by needle depth", tenth, length, score)


def _distances(panel: Panel) -> Iterator[_Part]:
    """Distance x model where questions stand at the end; distance x tokens read where they stand on the way."""
    for row, length, cell in panel.places():
        model, title = _name(row.model), f"{_title(panel)} {format_length(length)}"
        along = any(each.along for each in cell.counted)
        for (distance, age), score in chain.from_iterable(each.distances.items() for each in cell.counted):
            if along:
                by = f"{title}, {model}: % by tokens since the fact and tokens read by then"
                yield _Part("age", by, distance, age, score)
            else:
                yield _Part("distance", f"{title}: % by tokens since the fact", distance, model, score)


def _doses(panel: Panel) -> Iterator[_Part]:
    """Kind x dose of each length and model, where subsets are named KIND-DOSE."""
    if named := re.fullmatch(r"(.+)-(\d{1,9})", panel.subset):
        for row, length, cell in panel.places():
            if cell.n:
                title = f"{_terms(panel)} {format_length(length)}, {_name(row.model)}: % by dose"
                yield _Part("dose", title, _name(named[1]), int(named[2]), cell.score)


def _scored(board: Leaderboard, parts: Callable[[Panel], Iterator[_Part]]) -> Iterator[Grid]:
    """A grid for each kind and title, over panels that compare."""
    grids: dict[tuple[Any, ...], dict[tuple[Any, Any], list[Score]]] = defaultdict(lambda: defaultdict(list))
    for panel in board.panels:
        for kind, title, row, column, score in parts(panel):
            grids[kind, title, panel.terms, panel.chance][row, column].append(score)
    for (kind, title, _, chance), found in grids.items():
        rows, columns = (_in_order([key[i] for key in found]) for i in (0, 1))
        if kind == "dose" and len(found) == len(rows):  # one dose alone shows nothing
            continue
        corner, row_name, column_name = _NAMES[kind]
        named = {(row_name(row), column_name(column)): total(scores) for (row, column), scores in found.items()}
        yield Grid(
            kind, f"{title}, n = {_range([score.n for score in named.values()])} a cell", corner,
            [*map(row_name, rows)], [*map(column_name, columns)], {at: _share(score) for at, score in named.items()},
            {at: score.correct / score.n for at, score in named.items() if score.n}, chance,
            max(score.n for score in named.values()),
        )  # fmt: skip


def _ruler(board: Leaderboard) -> Iterator[Grid]:
    """RULER's mean of its 13 tasks, effective length and weighted averages, where all 13 tasks have a score."""
    for group in _on_equal_terms(panel for panel in board.panels if panel.subset in TASKS):
        scores: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
        for panel in group:
            for _, length, cell in panel.places():
                if cell.accuracy is not None:
                    record = cell.counted[0].record  # not row.model, which may name the weights in one panel only
                    weights = (record.weights_hash or "-")[:8]
                    scores[record.model, weights][panel.subset, length] = cell.accuracy
        names = [name for name, _ in scores]
        columns = {
            _name(name) + f" weights={weights}" * (names.count(name) > 1): _ruler_summary(means)
            for (name, weights), found in scores.items()
            if (means := averages(found))
        }
        if columns:
            title = f"{_terms(group[0])}: mean of the 13 tasks; effective: longest length with {THRESHOLD}"
            rows = list(dict.fromkeys(chain.from_iterable(columns.values())))
            cells = {(row, model): text for model, summary in columns.items() for row, text in summary.items()}
            yield Grid("ruler", title, "", rows, list(columns), cells)


def _ruler_summary(means: Mapping[int, float]) -> dict[str, str]:
    effective, (rising, falling) = effective_length(means), weighted_averages(means)
    texts = {format_length(length): f"{mean:.1f}" for length, mean in means.items()}
    texts["effective"] = format_length(effective) if effective else f"<{format_length(min(means))}"
    return texts | {"wAvg inc": f"{rising:.1f}", "wAvg dec": f"{falling:.1f}"}


def _losses(board: Leaderboard) -> Iterator[Grid]:
    """Loss by position: ranges x (model, subset) of each task and length."""
    for group in _on_equal_terms(board.panels):
        found: dict[int, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
        for panel in group:
            for row, length, cell in panel.places():
                for record in (each.record for each in cell.counted if each.record.curve):
                    seed = f" seed={record.seed}" if len(cell.counted) > 1 else ""
                    found[length][f"{_name(row.model)} {_name(panel.subset)}".strip() + seed] = record.curve
        for length, curves in sorted(found.items()):
            cells = {(f"{part['from']:,} -", name): _nats(part) for name, curve in curves.items() for part in curve}
            streams = _range([part["streams"] for curve in curves.values() for part in curve])
            title = f"{_terms(group[0])} {format_length(length)}: nats/token by position, {streams} stream"
            title += "s" * (streams != "1")
            yield Grid("loss", title, "from", list(dict.fromkeys(row for row, _ in cells)), list(curves), cells)


def _nats(part: Mapping[str, Any]) -> str:
    low, high = part.get("low"), part.get("high")
    if part["nats"] is None:  # it was no number
        return ""
    return f"{part['nats']:.3f}" + ("" if low is None or high is None else f" +-{(high - low) / 2:.3f}")


def _on_equal_terms(panels: Iterator[Panel] | Sequence[Panel]) -> list[list[Panel]]:
    """The panels grouped by task, versions and choice of data."""
    groups: dict[tuple[Any, ...], list[Panel]] = defaultdict(list)
    for panel in panels:
        groups[panel.terms].append(panel)
    return list(groups.values())


def _terms(panel: Panel) -> str:
    """The task, with the choices of data that are not the usual ones."""
    return panel.task + clip(panel.unusual, NAME_CHARS)


def _title(panel: Panel) -> str:
    return clip(panel.title, 2 * NAME_CHARS)


def _name(text: str) -> str:
    return clip(text, NAME_CHARS)


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Numbers in rising order, names in order of appearance."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(value, int) for value in once) else once


def _share(score: Score) -> str:
    """'92 (62-99)': percent and 95 % interval."""
    low, high = score.interval
    return f"{100 * score.correct / score.n:.0f} ({100 * low:.0f}-{100 * high:.0f})" if score.n else ""


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _about(half: int) -> str:
    """6 -> '~1K', 7 -> '~3K'."""
    value = 10 ** (half / 2)
    unit = 10 ** int(math.log10(value))
    return f"~{format_length(round(value / unit) * unit)}"


_NAMES: dict[str, tuple[str, Callable[[Any], str], Callable[[Any], str]]] = {  # kind -> corner, of a row, of a column
    "depth": ("depth", lambda tenth: f"{10 * tenth} %", format_length),
    "distance": ("tokens ago", _about, str),
    "age": ("tokens ago", _about, _about),
    "dose": ("kind", str, str),
}
