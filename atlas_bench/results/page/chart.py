"""Accuracy against something, drawn by matplotlib as an SVG that takes its colours and fonts from the page.

    chart([Series("atlas-nano", [(1000, 397, 400), (4000, 397, 400)])], Axis("length, tokens", format_length),
          name="f0", title="babilong:qa1: accuracy against length", chance=1 / 6)

Every point has its 95 % Wilson interval as a bar. Names stand in the right margin, spread so that none covers
another, each tied to its series by a line; so there is no legend to look up, and LABELS models can be read.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from atlas_bench.results.page.template import clean
from atlas_bench.results.stats import wilson

LABELS = 32  # series at most in one figure
NAME_CHARS = 36
COLOURS = 8  # --s0 .. --s7 of style.css
MARKERS, DASHES = "os^D", ("-", "--", ":", "-.")  # change when the colours are used up

_WIDTH, _LEFT, _LINE, _LETTER = 560, 40, 13, 6  # in px: the whole, axis labels, the height of a name, a letter
_INK, _SOFT, _RULE, _SERIES = "#010101", "#020202", "#030303", "#0000f{}"  # stand for the page's colours
_PAGE = {_INK: "currentColor", _SOFT: "var(--soft)", _RULE: "var(--rule)"}
_PAGE |= {_SERIES.format(i): f"var(--s{i})" for i in range(COLOURS)}


def _classes(style: re.Match[str]) -> str:
    """Colour and anchor of a style as classes."""
    return f'class="{style[2]}{" " + style[1] if style[1] else ""}" style="'


_SHORTER = [  # style.css says these for every chart
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r'<g id="[^"]*"', "<g"),
        (r' transform="rotate\(-0 [^"]*"', ""),
        (r"font-family: [^;\"]*;? ?|font-size: 10px; ?|text-anchor: start; ?|fill: none;? ?", ""),
        (r"#0[0-9a-f]{5}\b", lambda colour: _PAGE.get(colour[0], colour[0])),
        (r"fill: currentColor|stroke: none|stroke-linecap: square", ""),
        (r'style="(?:text-anchor: (\w+); )?(?:stroke|fill): var\(--(\w+)\);? ?', _classes),
        (r'" style="stroke-width: 0\.6; ?"', ' thin"'),
        (r' style="[; ]*"', ""),
        (r"(\d+)\.0+\b|(\d+\.\d)\d+", lambda number: number[1] or number[2]),
        (r"\s+", " "),
        (r" ?([MLCz]) ?", r"\1"),
    )
]


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


def chart(series: Sequence[Series], axis: Axis, *, name: str, title: str, chance: float | None = None) -> Markup:
    """The figure as an SVG element.

    series  at most LABELS, none of them empty
    name    the start of every id in it
    title   is read out where the figure cannot be seen
    chance  in 0..1, drawn as a line
    """
    import matplotlib
    from matplotlib.figure import Figure

    height = max(260, _LINE * len(series) + 60)
    right = _WIDTH - 40 - _LETTER * max(12, *(len(_short(each.name)) for each in series))  # where the plot ends
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.size": 10}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that matplotlib's font lacks is there in the reader's
        figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
        figure.patch.set_visible(False)
        axes = figure.add_axes((_LEFT / _WIDTH, 42 / height, (right - _LEFT) / _WIDTH, 1 - 64 / height))
        _frame(axes, axis, sorted({x for each in series for x, _, _ in each.points}), chance)
        for i, each in enumerate(series):
            _draw(axes, each, i, len(series))
        _names(figure, axes, series, (right, height))
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _inline(out.getvalue(), title, name)


def _frame(axes, axis: Axis, xs: Sequence[float], chance: float | None) -> None:
    """Axes without a box: grid lines at the quarters, the line of chance, ticks of x."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    room = max(1.2, (xs[-1] / xs[0]) ** 0.06)
    axes.set_frame_on(False)
    axes.set_xscale("log")
    axes.set_xlim(xs[0] / room, xs[-1] * room)
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(axis, xs[0] / room, xs[-1] * room, xs)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: axis.tick(x)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    axes.tick_params(length=0, colors=_SOFT, pad=6)
    axes.grid(axis="y", color=_RULE, linewidth=1, clip_on=False)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis.label, color=_SOFT, loc="right", labelpad=4)
    axes.text(0, 1.03, "% right", transform=axes.transAxes, color=_SOFT, va="bottom", ha="left")
    if chance is not None:
        across = axes.get_yaxis_transform()
        axes.plot([0, 1], [100 * chance] * 2, color=_SOFT, linewidth=1, linestyle=(0, (2, 3)), transform=across)
        said = f"chance {100 * chance:.1f}"
        axes.text(1, 100 * chance + 1, said, transform=across, color=_SOFT, va="bottom", ha="right")


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


def _draw(axes, series: Series, i: int, of: int) -> None:
    """A line or mark with its intervals; lines stand a little beside each other, so that no bar covers another."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    colour = _SERIES.format(i % COLOURS)
    xs = [x for x, _, _ in series.points]
    ys = [100 * correct / n for _, correct, n in series.points]
    spans = series.spans or [wilson(correct, n) for _, correct, n in series.points]
    bars = [[part for x in xs for part in (x, x, math.nan)], [100 * y for span in spans for y in (*span, math.nan)]]
    aside = (i - (of - 1) / 2) * min(3, 12 / of) if len(xs) > 1 else 0
    where = axes.transData + ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
    dashes = DASHES[i // COLOURS % 4] if len(xs) > 1 else "none"
    axes.add_artist(Line2D(*bars, color=colour, linewidth=1, transform=where, clip_on=False))
    axes.add_artist(
        Line2D(
            xs, ys, color=colour, linewidth=1.6, linestyle=dashes, transform=where, clip_on=False,
            marker=MARKERS[i // COLOURS % 4], markersize=6, markeredgewidth=0,
        )
    )  # fmt: skip


def _names(figure, axes, series: Sequence[Series], corner: tuple[int, int]) -> None:
    """Names in the margin right of the plot, each as near to its last point as the others let it."""
    from matplotlib.lines import Line2D

    right, height = corner
    ends = []
    for i, each in enumerate(series):
        x, correct, n = each.points[-1]
        ends.append((*axes.transData.transform((x, 100 * correct / n)), i))
    ends.sort(key=lambda end: (-end[1], -end[0]))
    places = _spread([height - y for _, y, _ in ends], low=_LINE / 2, high=height - _LINE / 2)
    for (x, y, i), place in zip(ends, places, strict=True):
        colour, across = _SERIES.format(i % COLOURS), [(x + 5), right + 6, right + 24]
        down = [y / height, y / height, 1 - place / height]
        figure.add_artist(Line2D([x / _WIDTH for x in across], down, color=colour, linewidth=0.6))
        mark = {"marker": MARKERS[i // COLOURS % 4], "markersize": 6, "markeredgewidth": 0}
        figure.add_artist(Line2D([(right + 28) / _WIDTH], [down[-1]], color=colour, linestyle="none", **mark))
        figure.text((right + 36) / _WIDTH, down[-1], _short(series[i].name), color=_INK, va="center_baseline")


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


def _inline(svg: str, title: str, name: str) -> Markup:
    """The figure for the inside of a page: the page's colours and font, short numbers, and a title to be read out."""
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size
    svg = re.sub(r".*?<svg[^>]*>\s*<defs>\s*<style.*?</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: _short_tag(tag[0]), svg)
    svg = re.sub(r"</?g/?>|(?<=>)\s+(?=<)", "", svg)
    svg = _marks_once(svg, name)
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}"><title id="{}">{}</title>')
    return head.format(size[1], size[2], name, name, clean(title)) + Markup(svg.strip())


def _marks_once(svg: str, name: str) -> str:
    """Marks of one shape defined once: they differ in the colour of their use alone."""
    define = re.compile(r'<defs><path id="([^"]*)" d="([^"]*)"/></defs>')
    shapes = {shape: f"{name}-{i}" for i, shape in enumerate(dict.fromkeys(d for _, d in define.findall(svg)))}
    ids = {old: shapes[shape] for old, shape in define.findall(svg)}
    svg = re.sub(r'href="#([^"]*)"', lambda use: f'href="#{ids[use[1]]}"', define.sub("", svg))
    return "<defs>" + "".join(f'<path id="{new}" d="{d}"/>' for d, new in shapes.items()) + "</defs>" + svg


def _short_tag(tag: str) -> str:
    """A tag without what style.css says of every chart."""
    for pattern, instead in _SHORTER:
        tag = pattern.sub(instead, tag)
    return tag
