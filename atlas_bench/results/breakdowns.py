"""Scores by depth, by distance, by dose, and losses by position: small tables made from a leaderboard.

    niah:single, atlas-nano: % by needle depth, n = 9 a cell
    depth              4K            64K
       0 %    100 (70-100)    89 (57-98)
      10 %    100 (70-100)    78 (45-94)

They appear for any task whose records have what they need: `needle_depth` or `distance` in answers, subsets named
KIND-DOSE, the 13 subsets of RULER, a `curve`. Every number stands with its 95 % interval; an empty cell was not asked.
What the panels keep apart (versions, data, weights) stays apart, and each seed counts once.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.panels import Panel
from atlas_bench.results.record import clip
from atlas_bench.results.ruler_summary import TASKS, THRESHOLD, averages, effective_length, weighted_averages
from atlas_bench.results.stats import wilson
from atlas_bench.results.summary import Tally
from atlas_bench.units import format_length

NAME_CHARS = 80  # of a model's or subset's name, which may be anyone's text


@dataclass(frozen=True)
class Grid:
    """A titled table of texts: cells[row, column], missing where nothing was asked.

    kind    "depth", "ruler", "distance", "age", "dose" or "loss"
    values  of cells that are scores: what they say, in 0..1
    chance  of these scores
    """

    kind: str
    title: str
    corner: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: dict[tuple[str, str], str]
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    chance: float | None = None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(heads, rows) of texts."""
        rows = [[row, *(self.cells.get((row, column), "") for column in self.columns)] for row in self.rows]
        return [self.corner, *self.columns], rows


def grids(board: Leaderboard) -> list[Grid]:
    """All the tables that the leaderboard has something for."""
    kinds = (_depths, _ruler, _distances, _doses, _losses)
    return [grid for kind in kinds for grid in kind(board.panels)]


def _depths(panels: Iterable[Panel]) -> Iterator[Grid]:
    """Depth x length of each panel and model."""
    for panel in panels:
        for row in panel.rows:
            found = [
                (tenth, length, tally)
                for length, cell in row.cells.items()
                for each in cell.counted
                for tenth, tally in each.depths.items()
            ]
            if found:
                title = f"{_title(panel)}, {_name(row.model)}: % by needle depth"
                yield _scored("depth", title, "depth", found, panel.chance, _per_cent, format_length)


def _ruler(panels: Iterable[Panel]) -> Iterator[Grid]:
    """RULER's average of its 13 tasks, its effective length and weighted averages, where all 13 were asked."""
    for terms, group in _on_equal_terms(panel for panel in panels if panel.subset in TASKS):
        scores: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
        for panel in group:
            for row in panel.rows:
                record = next(iter(row.cells.values())).all[0].record  # a row's name is another's in the next panel
                scores[record.model, (record.weights_hash or "-")[:8]] |= {
                    (panel.subset, length): cell.accuracy
                    for length, cell in row.cells.items()
                    if cell.accuracy is not None
                }
        rows, cells = [], {}
        for (name, weights), found in scores.items():
            if means := averages(found):
                several = sum(name == other for other, _ in scores) > 1
                model = _name(name) + f" weights={weights}" * several
                summary = _ruler_summary(means)
                rows += [row for row in summary if row not in rows]
                cells |= {(row, model): text for row, text in summary.items()}
        if cells:
            title = f"{group[0].task}{terms}: mean of the 13 tasks; effective: longest length with {THRESHOLD}"
            yield Grid("ruler", title, "", rows, list(dict.fromkeys(model for _, model in cells)), cells)


def _ruler_summary(means: Mapping[int, float]) -> dict[str, str]:
    effective, (rising, falling) = effective_length(means), weighted_averages(means)
    texts = {format_length(length): f"{mean:.1f}" for length, mean in means.items()}
    texts["effective"] = format_length(effective) if effective else f"<{format_length(min(means))}"
    return texts | {"wAvg inc": f"{rising:.1f}", "wAvg dec": f"{falling:.1f}"}


def _distances(panels: Iterable[Panel]) -> Iterator[Grid]:
    """Distance x model where all is asked at the end; distance x age of the stream where it is asked on the way."""
    for panel in panels:
        for length in panel.lengths:
            at_end, title = [], f"{_title(panel)} {format_length(length)}"
            for row in panel.rows:
                counted = row.cells[length].counted if length in row.cells else ()
                tallies = [item for each in counted for item in each.distances.items()]
                found = [(distance, age, tally) for (distance, age), tally in tallies]
                if any(each.along for each in counted) and found:
                    by = f"{title}, {_name(row.model)}: % by tokens since the fact and tokens read by then"
                    yield _scored("age", by, "tokens ago", found, panel.chance, _about, _about)
                else:
                    at_end += [(distance, _name(row.model), tally) for distance, _, tally in found]
            if at_end:
                by = f"{title}: % by tokens since the fact"
                yield _scored("distance", by, "tokens ago", at_end, panel.chance, _about, str)


def _doses(panels: Iterable[Panel]) -> Iterator[Grid]:
    """Kind x dose of each length and model, where subsets are named KIND-DOSE and a kind has several doses."""
    named = ((panel, re.fullmatch(r"(.+)-(\d{1,9})", panel.subset)) for panel in panels)
    dosed = {id(panel): (panel, match[1], int(match[2])) for panel, match in named if match}
    for terms, group in _on_equal_terms(panel for panel, _, _ in dosed.values()):
        kinds = [dosed[id(panel)][1] for panel in group]
        found: dict[tuple[int, str], list[tuple[str, int, Tally]]] = defaultdict(list)
        for panel in group:
            _, kind, dose = dosed[id(panel)]
            for row in panel.rows if len(kinds) > len(set(kinds)) else ():
                for length, cell in row.cells.items():
                    if cell.n:
                        found[length, _name(row.model)].append((kind, dose, Tally(cell.correct, cell.n)))
        for (length, model), tallies in sorted(found.items(), key=lambda item: item[0][0]):
            title = f"{group[0].task}{terms} {format_length(length)}, {model}: % by dose"
            yield _scored("dose", title, "kind", tallies, group[0].chance, _name, str)


def _losses(panels: Iterable[Panel]) -> Iterator[Grid]:
    """Loss by position: ranges x (model, subset) of each task and length."""
    for terms, group in _on_equal_terms(panels):
        found: dict[int, list[tuple[str, list[dict[str, Any]]]]] = defaultdict(list)
        for panel in group:
            for row in panel.rows:
                for length, cell in row.cells.items():
                    for each in cell.counted:
                        seed = f" seed={each.record.seed}" if len(cell.counted) > 1 else ""
                        if each.record.curve:
                            named = f"{_name(row.model)} {_name(panel.subset)}".strip() + seed
                            found[length].append((named, each.record.curve))
        for length, curves in sorted(found.items()):
            rows = list(dict.fromkeys(f"{part['from']:,} -" for _, curve in curves for part in curve))
            cells = {(f"{part['from']:,} -", name): _nats(part) for name, curve in curves for part in curve}
            streams = sorted({part["streams"] for _, curve in curves for part in curve})
            by = f"nats/token by position, {_range(streams)} streams"
            title = f"{group[0].task}{terms} {format_length(length)}: {by}"
            yield Grid("loss", title, "from", rows, [name for name, _ in curves], cells)


def _nats(part: Mapping[str, Any]) -> str:
    low, high = part.get("low"), part.get("high")
    if part["nats"] is None:  # it was no number
        return ""
    return f"{part['nats']:.3f}" + ("" if low is None or high is None else f" +-{(high - low) / 2:.3f}")


def _on_equal_terms(panels: Iterable[Panel]) -> list[tuple[str, list[Panel]]]:
    """Panels of one task, versions and choice of data, with what tells the choice from the usual one."""
    groups: dict[tuple[Any, ...], list[Panel]] = defaultdict(list)
    for panel in panels:
        versions = (panel.task, panel.task_version, panel.scorer, panel.scorer_version)
        groups[*versions, repr(sorted(panel.options.items()))].append(panel)
    return [(clip(group[0].unusual, NAME_CHARS), group) for group in groups.values()]


def _title(panel: Panel) -> str:
    return clip(panel.name + panel.unusual, 2 * NAME_CHARS)


def _name(text: str) -> str:
    return clip(text, NAME_CHARS)


def _scored(
    kind: str, title: str, corner: str, found: Iterable[tuple[Any, Any, Tally]], chance: float | None,
    row_name: Callable[[Any], str], column_name: Callable[[Any], str],
) -> Grid:  # fmt: skip
    """The grid of (row, column, tally), tallies of one place added."""
    sums: dict[tuple[Any, Any], Tally] = {}
    for row, column, tally in found:
        before = sums.get((row, column), Tally(0, 0))
        sums[row, column] = Tally(before.correct + tally.correct, before.n + tally.n)
    rows, columns = (_in_order([key[i] for key in sums]) for i in (0, 1))
    named = {(row_name(r), column_name(c)): tally for (r, c), tally in sums.items()}
    return Grid(
        kind, f"{title}, n = {_range(sorted(tally.n for tally in sums.values()))} a cell", corner,
        [row_name(r) for r in rows], [column_name(c) for c in columns],
        {where: _share(tally) for where, tally in named.items()},
        {where: tally.correct / tally.n for where, tally in named.items() if tally.n}, chance,
    )  # fmt: skip


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Numbers rising, names as they came."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(value, int) for value in once) else once


def _share(tally: Tally) -> str:
    """'92 (62-99)': percent and 95 % Wilson interval."""
    low, high = wilson(*tally)
    return f"{100 * tally.correct / tally.n:.0f} ({100 * low:.0f}-{100 * high:.0f})" if tally.n else ""


def _range(counts: Sequence[int]) -> str:
    return f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def _per_cent(tenth: int) -> str:
    return f"{10 * tenth} %"


def _about(half: int) -> str:
    """6 -> '~1K', 7 -> '~3K'."""
    value = 10 ** (half / 2)
    unit = 10 ** int(math.log10(value))
    return f"~{format_length(round(value / unit) * unit)}"
