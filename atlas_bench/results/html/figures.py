"""The figures of a board: accuracy against length, bytes of state and tokens/s; what is known by distance and age.

for figure in of_panel(panel):
    figure.svg, figure.caption
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from atlas_bench.results.html.chart import LABELS, Axis, Series, chart
from atlas_bench.results.panels import Panel, Row
from atlas_bench.results.record import clip
from atlas_bench.results.summary import Summary
from atlas_bench.units import format_bytes, format_length

LENGTH = Axis("length, tokens", lambda x: format_length(round(x)))
STATE = Axis("bytes of state", lambda x: format_bytes(x).replace(".0 ", " "), ((1,), 2))
SPEED = Axis("tokens/s", lambda x: _compact(x), ((1, 2, 5), 10))
DISTANCE = Axis("tokens since the fact", lambda x: "~" + _compact(float(f"{x:.1g}")), ((1,), 10))
AGE = Axis("tokens read by then", lambda x: "~" + _compact(float(f"{x:.1g}")), ((1,), 10))

AGES = 6  # figures of one panel by age, one for a model and length
TITLE_CHARS = 300


Drawing = tuple[Iterable[Series], Axis, str]  # and what it shows


@dataclass(frozen=True)
class Figure:
    """An SVG and what it shows."""

    svg: Markup
    caption: str


def of_panel(panel: Panel, id: str) -> Iterator[Figure]:
    """The figures that a panel has numbers for, of its first LABELS models; each is drawn when it is asked for.

    id  the start of every id in them
    """
    rows = [row for row in panel.rows if any(cell.n for cell in row.cells.values())]
    those = f", the first {LABELS} of {len(rows)} models" if len(rows) > LABELS else ""
    for i, (series, axis, said) in enumerate(_drawings(panel, rows[:LABELS])):
        if there := [each for each in series if each.points][:LABELS]:
            named = clip(f"{panel.name}{panel.unusual}: {said}", TITLE_CHARS)
            svg = chart(there, axis, name=f"{id}-f{i}", title=named, chance=panel.chance)
            yield Figure(svg, f"{said}{those}.")


def _drawings(panel: Panel, rows: Sequence[Row]) -> Iterator[Drawing]:
    yield from _by_length(rows)
    yield from _by_cost(rows)
    yield from _by_distance(rows)
    yield from _by_age(rows)


def _by_length(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Where there is more than one length; 0 has no place on a logarithmic axis."""
    series = [
        Series(
            row.model,
            [(length, cell.correct, cell.n) for length, cell in row.cells.items() if cell.n and length],
            [cell.interval for length, cell in row.cells.items() if cell.n and length],
        )
        for row in rows
    ]
    if len({x for each in series for x, _, _ in each.points}) > 1:
        yield series, LENGTH, "Accuracy against length"


def _by_cost(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Against bytes of state and speed, a mark per model, where two or more can be set beside each other."""
    length = _common_length(rows)
    at = f"Accuracy at {format_length(length or 0)} tokens against"
    for field, axis, said in (
        ("state_bytes", STATE, f"{at} bytes of state"),
        ("tokens_per_second", SPEED, f"{at} reading speed; speeds are those of the machine each record was made on"),
    ):
        series = []
        for row in rows:
            cell = row.cells.get(length) if length is not None else None
            values = [value for each in cell.counted if (value := getattr(each.record, field))] if cell else []
            if cell and cell.n and values:
                series.append(Series(row.model, [(fmean(values), cell.correct, cell.n)], [cell.interval]))
        if len(series) > 1:
            yield series, axis, said


def _by_distance(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Where all is asked at the end: a line per model, at the longest common length."""
    asked = [row for row in rows if not _along(row)]
    length = _common_length(asked)
    series = [
        Series(row.model, _tallied(row.cells[length].counted, lambda distance, _: distance))
        for row in asked
        if length in row.cells
    ]
    said = f"Accuracy at {format_length(length or 0)} tokens against the distance of the fact from the question"
    yield series, DISTANCE, said


def _by_age(rows: Sequence[Row]) -> Iterator[Drawing]:
    """Where it is asked on the way: for the first cells of the panel, a line per distance."""
    cells = [(row.model, length, cell.counted) for row in rows if _along(row) for length, cell in row.cells.items()]
    those = f", the first {AGES} of {len(cells)} such figures" if len(cells) > AGES else ""
    for model, length, found in cells[:AGES]:
        distances = sorted({distance for each in found for distance, _ in each.distances})
        series = [
            Series(f"{DISTANCE.tick(10 ** (far / 2))} tokens since", _tallied(found, lambda _, age: age, only=far))
            for far in distances
        ]
        said = f"{model} at {format_length(length)} tokens: accuracy against the age of the stream"
        yield series, AGE, f"{said}, a line per distance of the fact{those}"


def _along(row: Row) -> bool:
    return any(each.along for cell in row.cells.values() for each in cell.counted)


def _tallied(
    found: Iterable[Summary], key: Callable[[int, int], int], *, only: int | None = None
) -> list[tuple[float, float, int]]:
    """(tokens, right, asked) by distance or age, from half decades; `only` one distance."""
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0])
    for each in found:
        for (distance, age), tally in each.distances.items():
            if only is None or distance == only:
                sums[key(distance, age)][0] += tally.correct
                sums[key(distance, age)][1] += tally.n
    return [(10 ** (half / 2), correct, int(n)) for half, (correct, n) in sorted(sums.items()) if n]


def _common_length(rows: Iterable[Row]) -> int | None:
    """The longest length that more than half of the models have a score at; else the one that most have."""
    counts: dict[int, int] = defaultdict(int)
    models = 0
    for row in rows:
        models += 1
        for length, cell in row.cells.items():
            counts[length] += bool(cell.n)
    most = max(counts.values(), default=0)
    shared = [length for length, count in counts.items() if count and (2 * count > models or count == most)]
    return max(shared, default=None)


def _compact(value: float) -> str:
    """2441 -> '2.4K'."""
    for unit, factor in (("M", 1e6), ("K", 1e3)):
        if value >= factor:
            return f"{value / factor:.2g}{unit}" if value < 100 * factor else f"{value / factor:.0f}{unit}"
    return f"{value:.3g}"
