"""The figures of a panel: accuracy against length, bytes of state and tokens/s; chart.py draws them.

for figure in of_panel(panel):
    chart(figure, name="p0-f0"), figure.caption
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean

from atlas_bench.results.html.chart import LABELS, Axis, Figure, Point, Series
from atlas_bench.results.panels import Cell, Panel, Row
from atlas_bench.units import counted, format_bytes, format_count, format_length

LENGTH = Axis("length, tokens", lambda x: format_length(round(x)))
COSTS = {  # field of a record -> its axis, and what a figure shows against it
    "state_bytes": (Axis("bytes of state", lambda x: format_bytes(x).replace(".0 ", " "), ((1,), 2)), "bytes of state"),
    "tokens_per_second": (
        Axis("tokens/s", lambda x: format_count(x).replace(".0", ""), ((1, 2, 5), 10)),
        "reading speed; speeds are those of the machine each record was made on",
    ),
}


def of_panel(panel: Panel) -> Iterator[Figure]:
    """The figures that a panel has numbers for, with its first LABELS models."""
    rows = [row for row in panel.rows if row.scored]
    those = f", the first {LABELS} of {counted(len(rows), 'model')}" if len(rows) > LABELS else ""
    rows = rows[:LABELS]
    points = {row.model: [_point(length, cell) for length, cell in row.scored.items() if length] for row in rows}
    if len({point.x for each in points.values() for point in each}) > 1:
        by_length = [Series(model, each) for model, each in points.items() if each]
        yield Figure(f"Accuracy against length{those}.", by_length, LENGTH, panel.chance)
    length = _common_length(rows)
    for field, (axis, what) in COSTS.items():
        cells = {row.model: row.scored[length] for row in rows if length in row.scored}
        costs = {model: [getattr(each.record, field) for each in cell.counted] for model, cell in cells.items()}
        by_cost = [
            Series(model, [_point(fmean(known), cells[model])])
            for model, values in costs.items()
            if (known := [value for value in values if value])
        ]
        if len(by_cost) > 1:
            caption = f"Accuracy at {format_length(length or 0)} tokens against {what}{those}."
            yield Figure(caption, by_cost, axis, panel.chance)


def _point(x: float, cell: Cell) -> Point:
    return Point(x, cell.correct / cell.n, *cell.interval)


def _common_length(rows: Sequence[Row]) -> int | None:
    """The longest length that more than half of the models have a score at; else the one that most have."""
    counts = Counter(length for row in rows for length in row.scored)
    most = max(counts.values(), default=0)
    return max((length for length, n in counts.items() if 2 * n > len(rows) or n == most), default=None)
