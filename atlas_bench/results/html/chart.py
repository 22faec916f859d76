"""Accuracy against length, state or speed as an SVG, with the colours and fonts of the page (templates/chart.svg.j2).

    series = [Series("atlas-nano", [Point(1000, 0.99, 0.97, 1.0), Point(4000, 0.99, 0.97, 1.0)])]
    figure = Figure("Accuracy against length", series, Axis("length, tokens", format_length), chance=1 / 6)
    chart(figure, name="f0", title="babilong:qa1")

Every point has its 95 % interval as a bar. The names stand in the right margin instead of a legend: spread so that
none covers another, and each tied to its series by a line. On a phone style.css shows the plot without that margin, and
the list of names below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from markupsafe import Markup

from atlas_bench.errors import printable
from atlas_bench.results.html.template import render

LABELS = 32  # series at most in one figure
NAME_CHARS = 36
COLOURS = 8  # --s0 .. --s7 of style.css
DASHES = ("none", "6 2.5", "6 2.5 1.6 2.5", "1.6 2")  # and the marks change when the colours are used up

_WIDTH, _LEFT, _TOP, _BOTTOM = 560, 40, 22, 42  # px: the whole, and the margins but the right one
_LINE, _LETTER = 13, 6  # px: the height of a name, the width of a letter


class Point(NamedTuple):
    """x above 0, and a share of right answers with its 95 % interval, all in 0..1."""

    x: float
    share: float
    low: float
    high: float


class Series(NamedTuple):
    """A name and its points: drawn as a line, or as a mark if there is one point."""

    name: str
    points: Sequence[Point]


class Axis(NamedTuple):
    """A logarithmic x axis.

    tick   an x value as text
    round  digits of round values (1, 2, 5) and the base of their powers; None: the values themselves have ticks
    """

    label: str
    tick: Callable[[float], str]
    round: tuple[tuple[int, ...], int] | None = None


class Figure(NamedTuple):
    """What is drawn: at most LABELS series, none of them empty, and the score of guessing as a line."""

    caption: str
    series: Sequence[Series]
    axis: Axis
    chance: float | None = None


def chart(figure: Figure, *, name: str, title: str) -> Markup:
    """The figure as an SVG element; `name` starts every id in it, `title` is for screen readers."""
    series, axis = figure.series, figure.axis
    height = max(260, _LINE * len(series) + 60)
    right = _WIDTH - 40 - _LETTER * max(12, *(len(_short(each.name)) for each in series))
    xs = sorted({point.x for each in series for point in each.points})
    room = max(1.2, (xs[-1] / xs[0]) ** 0.06)
    low, high, bottom = xs[0] / room, xs[-1] * room, height - _BOTTOM

    def x(value: float) -> float:
        return round(_LEFT + math.log(value / low) / math.log(high / low) * (right - _LEFT), 1)

    def y(share: float) -> float:
        return round(bottom - share * (bottom - _TOP), 1)

    drawn = [_drawn(each, i, len(series), x, y) for i, each in enumerate(series)]
    order = sorted(drawn, key=lambda each: (each["end"][1], each["end"][0]))
    places = _spread([each["end"][1] for each in order], low=_LINE / 2, high=height - _LINE / 2)
    for each, place in zip(order, places, strict=True):
        each["place"] = round(place, 1)
    ticks = [(x(value), axis.tick(value)) for value in _ticks(axis, low, high, xs)]
    return Markup(
        render(
            "chart.svg.j2", name=name, title=title, figure=figure, width=_WIDTH, height=height, left=_LEFT, right=right,
            bottom=bottom, y=y, ticks=ticks, series=drawn,
        )
    )  # fmt: skip


def _drawn(series: Series, i: int, of: int, x: Callable[[float], float], y: Callable[[float], float]) -> dict[str, Any]:
    """A series in pixels; lines are shifted a little, so that no bar covers another."""
    aside = (i - (of - 1) / 2) * min(3, 12 / of) if len(series.points) > 1 else 0
    points = [(round(x(point.x) + aside, 1), y(point.share)) for point in series.points]
    bars = [(at, y(point.low), y(point.high)) for (at, _), point in zip(points, series.points, strict=True)]
    turn = i // COLOURS % len(DASHES)
    return {
        "name": _short(series.name), "points": points, "bars": bars, "colour": i % COLOURS, "mark": turn,
        "dash": DASHES[turn], "end": points[-1],
    }  # fmt: skip


def _ticks(axis: Axis, low: float, high: float, xs: Sequence[float]) -> list[float]:
    """The x values with a tick: round ones where the axis has them, and so far apart that texts do not touch."""
    wanted = list(xs)
    if axis.round:
        digits, base = axis.round
        powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
        nice = [value for k in powers for digit in digits if low <= (value := digit * base**k) <= high]
        wanted = nice if len(nice) > 1 else wanted
    kept = [wanted[-1]]
    for x in reversed(wanted[:-1]):
        if x * (high / low) ** 0.16 <= kept[-1]:
            kept.append(x)
    return kept


def _spread(wanted: Sequence[float], *, low: float, high: float) -> list[float]:
    """Places for names, in the wanted (rising) order, at least a line apart, and as near to `wanted` as possible.

    Groups that would touch are joined about their common mean: isotonic regression by pooling neighbours.
    """
    groups: list[list[float]] = []  # wishes, each less the lines above it
    for i, wish in enumerate(wanted):
        groups.append([wish - i * _LINE])
        while len(groups) > 1 and fmean(groups[-2]) >= fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    free = [fmean(group) for group in groups for _ in group]
    most = high - (len(wanted) - 1) * _LINE
    return [max(low, min(most, place)) + i * _LINE for i, place in enumerate(free)]


def _short(name: str) -> str:
    """The name, or the two ends of a long one, which tell more than its middle."""
    name = printable(name, False)
    if len(name) <= NAME_CHARS:
        return name
    return f"{name[: NAME_CHARS // 3]}…{name[-(NAME_CHARS - NAME_CHARS // 3 - 1) :]}"
