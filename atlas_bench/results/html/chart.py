"""Accuracy against something as an SVG that takes its colours and fonts from the page; templates/chart.svg.j2 draws it.

    chart([Series("atlas-nano", [(1000, 397, 400), (4000, 397, 400)])], Axis("length, tokens", format_length),
          name="f0", title="babilong:qa1: accuracy against length", chance=1 / 6)

Every point has its 95 % interval as a bar. Names stand in the right margin, spread so that none covers another, each
tied to its series by a line; so there is no legend to look up, and LABELS models can be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from atlas_bench.results.html.template import clean, render
from atlas_bench.results.stats import wilson

LABELS = 32  # series at most in one figure
NAME_CHARS = 36
COLOURS = 8  # --s0 .. --s7 of style.css
DASHES = ("none", "6 2.5", "6 2.5 1.6 2.5", "1.6 2")  # and the marks change when the colours are used up

_WIDTH, _LEFT, _TOP, _BOTTOM = 560, 40, 22, 42  # px: the whole, and the margins but the right one
_LINE, _LETTER = 13, 6  # px: the height of a name, the width of a letter


@dataclass(frozen=True)
class Series:
    """A line or, with one point, a mark: (x above 0, sum of right answers, answers).

    spans  the points' 95 % intervals in 0..1; None: Wilson's
    """

    name: str
    points: Sequence[tuple[float, float, int]]
    spans: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class Axis:
    """A logarithmic x axis.

    tick   an x value as text
    round  digits of round values (1, 2, 5) and the base of their powers; None: the values themselves have ticks
    """

    label: str
    tick: Callable[[float], str]
    round: tuple[tuple[int, ...], int] | None = None


@dataclass(frozen=True)
class _Scale:
    """Where values stand, in px."""

    low: float
    high: float
    right: float
    bottom: float

    def x(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(_LEFT + share * (self.right - _LEFT), 1)

    def y(self, share: float) -> float:
        return round(self.bottom - share * (self.bottom - _TOP), 1)


def chart(series: Sequence[Series], axis: Axis, *, name: str, title: str, chance: float | None = None) -> Markup:
    """The figure as an SVG element.

    series  at most LABELS, none of them empty
    name    the start of every id in it
    title   is read out where the figure cannot be seen
    chance  in 0..1, drawn as a line
    """
    height = max(260, _LINE * len(series) + 60)
    right = _WIDTH - 40 - _LETTER * max(12, *(len(_short(each.name)) for each in series))
    xs = sorted({x for each in series for x, _, _ in each.points})
    room = max(1.2, (xs[-1] / xs[0]) ** 0.06)
    scale = _Scale(xs[0] / room, xs[-1] * room, right, height - _BOTTOM)
    drawn = [_drawn(each, i, len(series), scale) for i, each in enumerate(series)]
    order = sorted(range(len(series)), key=lambda i: (drawn[i]["end"][1], drawn[i]["end"][0]))
    wanted = [drawn[i]["end"][1] for i in order]
    for i, place in zip(order, _spread(wanted, low=_LINE / 2, high=height - _LINE / 2), strict=True):
        drawn[i]["place"] = round(place, 1)
    ticks = [(scale.x(x), axis.tick(x)) for x in _ticks(axis, scale.low, scale.high, xs)]
    return Markup(
        render(
            "chart.svg.j2", name=name, title=clean(title), width=_WIDTH, height=height, left=_LEFT, right=right,
            scale=scale, axis=axis, ticks=ticks, series=drawn, chance=chance,
        )
    )  # fmt: skip


def _drawn(series: Series, i: int, of: int, scale: _Scale) -> dict:
    """A line or mark with its intervals; lines stand a little beside each other, so that no bar covers another."""
    aside = (i - (of - 1) / 2) * min(3, 12 / of) if len(series.points) > 1 else 0
    spans = series.spans or [wilson(correct, n) for _, correct, n in series.points]
    points = [(round(scale.x(x) + aside, 1), scale.y(correct / n)) for x, correct, n in series.points]
    bars = [(x, *map(scale.y, span)) for (x, _), span in zip(points, spans, strict=True)]
    turn = i // COLOURS % len(DASHES)
    return {
        "name": _short(series.name), "points": points, "bars": bars, "colour": i % COLOURS, "mark": turn,
        "dash": DASHES[turn], "end": points[-1],
    }  # fmt: skip


def _ticks(axis: Axis, low: float, high: float, xs: Sequence[float]) -> list[float]:
    """The values, or round ones where the axis has them, so far apart that their texts do not touch."""
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
    """Places in the wanted (rising) order, at least a line apart, and as near to their wishes as that lets them.

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
    """The ends of a long name, which tell more than its middle."""
    name = clean(name).replace("\n", "\\n").replace("\t", "\\t")
    if len(name) <= NAME_CHARS:
        return name
    return f"{name[: NAME_CHARS // 3]}…{name[-(NAME_CHARS - NAME_CHARS // 3 - 1) :]}"
