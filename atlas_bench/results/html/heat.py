"""The colour of a score, and a panel of the board as the table that the page shows.

    step(0.97, 1 / 6)         # 10, of 0 (chance or below) to 10 (perfect)

Others' numbers are lines of the same table, without a step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from atlas_bench.results import labels
from atlas_bench.results.html.template import foreign
from atlas_bench.results.panels import Cell, Panel, shade
from atlas_bench.results.reference import Published
from atlas_bench.units import format_length

STEPS = 10  # of the ramp in style.css, above the neutral one


def step(accuracy: float, chance: float | None) -> int:
    """The step of the ramp: 0 at chance or below, STEPS from nine tenths of the way to perfect on."""
    return min(STEPS, math.ceil(STEPS * shade(accuracy, chance) - 1e-9))


@dataclass(frozen=True)
class PublishedLine:
    """A row of others' numbers: values by column, missing where nobody printed one."""

    model: str
    source: str
    kind: str
    values: dict[Any, str]
    notes: tuple[str, ...]


def table_cell(cell: Cell | None, chance: float | None, at: str, link: str = "") -> str:
    """A cell of the heat map as HTML; a status stands as a word with a border of its own, a point was not run.

    at    its length as text, which a narrow screen shows in the cell
    link  address of its detail; '' for none
    """
    if cell is None:
        return '<td class="empty">·'
    if cell.status != "ok":
        return _cell(f"none {cell.status}", cell.status, (), at, link)
    if not cell.n:
        metrics = list(cell.metrics.items())[:3]  # their names are anyone's text
        told = [str(foreign(f"{name.replace('_', ' ')} {value:.4g}", 40)) for name, value in metrics]
        return _cell("plain", told[0] if told else "n=0", told[1:], at, link)
    low, high = cell.interval
    small = [f"{100 * low:.0f}-{100 * high:.0f}", f"n={cell.n}{labels.marks(cell).replace('!', '')}"]
    if cell.without:
        seeds = len(cell.counted) + len(cell.without)
        statuses = Counter(each.record.status for each in cell.without)
        small += [f"{count} of {seeds} {status}" for status, count in statuses.items()]
    accuracy = cell.correct / cell.n
    return _cell(f"h{step(accuracy, chance)}", f"{100 * accuracy:.1f}", small, at, link)


def _cell(look: str, text: str, small: Iterable[str], at: str, link: str) -> str:
    said = f'<a href="{link}">{text}</a>' if link else text
    return f'<td class="{look}" data-at="{at}">{said}' + "".join(f"<small>{line}</small>" for line in small)


def contexts(panel: Panel) -> tuple[int, int] | None:
    """(fewest, most) contexts of the cells whose questions share them; None where none do."""
    shared = [cell.contexts for cell in panel.cells if cell.n and cell.contexts < cell.n]
    return (min(shared), max(shared)) if shared else None


def published_lines(rows: Iterable[Published]) -> list[PublishedLine]:
    """Others' numbers, one line for each model, source and kind, the fullest first, by length."""
    return _lines(rows, lambda row: row.length)


def published_table(rows: Sequence[Published], *, by_length: bool) -> tuple[list[str], list[PublishedLine]]:
    """(columns, lines) of numbers by length, or by what was asked where lengths say little."""

    def column(row: Published) -> str:
        length = "" if row.length is None else format_length(row.length)
        return length if by_length else f"{row.subset} {length}".strip()

    ordered = sorted(rows, key=lambda row: row.length or 0) if by_length else rows
    return list(dict.fromkeys(map(column, ordered))), _lines(rows, column)


def _lines(rows: Iterable[Published], column: Callable[[Published], Any]) -> list[PublishedLine]:
    lines: dict[tuple[str, str, str], list[Published]] = {}
    for row in rows:
        lines.setdefault((row.model, row.source, row.kind), []).append(row)
    return [
        PublishedLine(
            model, source, kind, {column(row): f"{row.value:g}" for row in group},
            tuple(dict.fromkeys(row.note for row in group if row.note)),
        )
        for (model, source, kind), group in sorted(lines.items(), key=lambda line: -len(line[1]))
    ]  # fmt: skip
