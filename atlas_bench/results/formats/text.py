"""Tables for a terminal, and the leaderboard as ASCII text of 80 columns.

print(text(board, reference.beside({"babilong:qa1": ("babilong", "qa1")})))

babilong:qa1
  task version 1; scorer babilong/official version 1; chance 16.7 %

rank model      eff.                1K  4K
   1 atlas-nano   1K  99.2 98-100 n400   .
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from atlas_bench.errors import printable
from atlas_bench.results import breakdowns, labels, leaderboard, reference
from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.panels import Cell, Panel
from atlas_bench.results.record import clip

WIDTH = 80
NAME_WIDTH = 24  # of names beside more columns than fit on one line
HEAD_WIDTH = 12  # of a heading; a longer one stands on several lines
FLAT = 2  # lengths at most whose cells stand on one line; of more, on three
_SHORT = {"unsupported": "unsup", "effective": "eff."}  # statuses and headings that are too long here


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), stub: int | None = None,
    gap: int = 1, width: int = WIDTH, rule: bool = False, group: int | None = None,
) -> Iterator[str]:  # fmt: skip
    """The lines of a table for a terminal; it cuts no name.

    rows   printable texts, of one or several lines
    left   columns of names: they are aligned left. Where a name is too long for its column, its row begins with a line
           up to the name; rows of one such name share that line
    stub   how many first columns each part repeats where not all columns fit side by side, None: there is one part.
           A part leaves out the rows that are blank or "." in all its columns
    gap    spaces before each column behind the stub
    width  of the terminal
    rule   whether to draw a line below the headings
    group  column whose texts stand above their rows, if the table is too wide with it; a row that is blank there
           belongs to the row before
    """
    stub = len(heads) if stub is None else stub
    cells = [[text.split("\n") for text in row] for row in rows]
    sizes = [max([min(len(head), HEAD_WIDTH), *(len(line) for row in cells for line in row[i])])
             for i, head in enumerate(heads)]  # fmt: skip
    before = ["", *[" "] * (stub - 1), *[" " * gap] * (len(heads) - stub)]
    group = group if sum(sizes) + sum(map(len, before)) > width else None
    cells = cells if group is None else _together(cells, group)
    for number, part in enumerate(_parts(sizes, left, stub, gap, width)):
        chosen = {i: size for i, size in part.items() if i != group}
        widths = _fitted(chosen, left, width - sum(len(before[i]) for i in chosen))
        yield from [""] if number else []
        yield from _heading(heads, widths, left, before)
        yield from ["-" * sum(len(before[i]) + size for i, size in widths.items())] if rule else []
        above: list[str] = []
        heading = ""
        for row in cells:
            if stub < len(heads) and all(row[i] in ([""], ["."]) for i in widths if i >= stub):
                continue
            if group is not None and row[group][0] != heading:
                heading = row[group][0]
                yield from textwrap.wrap(heading, width, break_on_hyphens=False)
            long = [i for i in left if i in widths and len(row[i][0]) > widths[i]]
            names, blank = [row[i][0] for i in long], long
            if names and names != above:
                blank = [i for i in widths if i <= max(long)]
                (start,) = _aligned({i: row[i][:1] for i in blank}, widths, left, before)
                yield from textwrap.wrap(start, width, drop_whitespace=False, break_on_hyphens=False)
            above = names if long or row[0][0] else above
            yield from _aligned({i: [""] if i in blank else row[i] for i in widths}, widths, left, before)


def _together(cells: Sequence[list[list[str]]], group: int) -> list[list[list[str]]]:
    """The rows by their text in a column, in order of first appearance; a blank one has the text of the row before."""
    found: dict[str, list[list[list[str]]]] = {}
    name = ""
    for row in cells:
        name = row[group][0] or name
        found.setdefault(name, []).append([*row[:group], [name], *row[group + 1 :]])
    return [row for rows in found.values() for row in rows]


def _heading(
    heads: Sequence[str], widths: Mapping[int, int], left: Sequence[int], before: Sequence[str]
) -> Iterator[str]:
    folded = {i: textwrap.wrap(heads[i], size) for i, size in widths.items()}
    height = max(map(len, folded.values()), default=0)
    return _aligned({i: [""] * (height - len(head)) + head for i, head in folded.items()}, widths, left, before)


def _aligned(
    texts: Mapping[int, Sequence[str]], widths: Mapping[int, int], left: Sequence[int], before: Sequence[str]
) -> Iterator[str]:
    """The lines of some columns side by side, of which each has one or several lines."""
    for line in zip_longest(*texts.values(), fillvalue=""):
        parts = zip(texts, line, strict=True)
        yield "".join(f"{before[i]}{text:{'<' if i in left else '>'}{widths[i]}}" for i, text in parts).rstrip()


def _parts(sizes: Sequence[int], left: Sequence[int], stub: int, gap: int, width: int) -> Iterator[dict[int, int]]:
    """The parts of a table as {column: width}: the stub, and as many more columns as fit, one at least."""
    first = dict(enumerate(sizes[:stub]))
    room = width - sum(min(size, NAME_WIDTH) if i in left else size for i, size in first.items()) - (stub - 1)
    part: dict[int, int] = {}
    for i in range(stub, len(sizes)):
        if part and sum(part.values()) + gap * len(part) + sizes[i] + gap > room:
            yield first | part
            part = {}
        part[i] = sizes[i]
    yield first | part


def _fitted(sizes: dict[int, int], left: Sequence[int], room: int) -> dict[int, int]:
    """The widths of columns that fit the room: columns of names shrink, the widest first."""
    fitted, names = dict(sizes), [i for i in sizes if i in left]
    while sum(fitted.values()) > room and max((fitted[i] for i in names), default=0) > 5:
        fitted[max(names, key=lambda i: (fitted[i], -i))] -= 1
    return fitted


def wrapped(text: str, later: str = "", first: str = "") -> list[str]:
    """The text as lines of 79 columns, in ASCII, with control characters as escapes."""
    shown = printable(" ".join(text.split()), True)
    return textwrap.wrap(shown, WIDTH - 1, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def text(
    board: Leaderboard, beside: Sequence[reference.Beside], *, title: str = labels.TITLE, command: str = ""
) -> str:
    """The leaderboard as text: panels, breakdowns, legend, reasons, others' numbers.

    beside  what others published, from reference.beside(); empty to leave it out
    """
    out = wrapped(f"{title}: {labels.number(board)}")
    for panel in board.panels:
        out += ["", *wrapped(panel.name), *wrapped("; ".join(labels.facts(panel)), "  ", "  "), "", *_panel(panel)]
    grids, left_out = breakdowns.telling(board)
    for grid in grids:
        out += ["", *grid_lines(grid)]
    out += ["", *wrapped(left_out)] if left_out else []
    out += ["", *(line for sentence in _legend(board) for line in wrapped(sentence, "    "))]
    if reasons := list(labels.reasons(board)):
        out += ["", "Without a score:", *(line for reason in reasons for line in wrapped(reason, "    "))]
    out += ["", *_published(beside)] if beside else []
    out += ["", *wrapped(f"Made by: {command}", "    ")] if command else []
    return "\n".join(out) + "\n"


def grid_lines(grid: breakdowns.Grid) -> Iterator[str]:
    """A breakdown under its title."""
    heads, rows = grid.table()
    yield from wrapped(grid.title)
    shown = [[printable(cell, True) for cell in row] for row in (heads, *rows)]
    yield from table(shown[0], shown[1:], left=(), stub=1)


def _panel(panel: Panel) -> Iterator[str]:
    heads, rows = leaderboard.table(panel, _cell)
    stub = len(heads) - len(panel.lengths)
    shown = [[printable(clip(text, labels.NAME_CHARS), True) for text in row] for row in rows]
    if len(panel.lengths) > FLAT:
        shown = [[*row[:stub], *(text.replace(" ", "\n") for text in row[stub:])] for row in shown]
    return table([_SHORT.get(head, head) for head in heads], shown, left=[heads.index("model")], stub=stub, gap=2)


def _cell(cell: Cell | None, panel: Panel) -> str:
    """'99.2 98-100 n400', 'oom' or, where nothing was run, '.'."""
    if cell is None:
        return "."
    if not cell.counted:
        return _SHORT.get(cell.status, cell.status)
    if not cell.n:
        return labels.bare(cell, panel) + labels.marks(cell)
    percent, low, high = labels.numbers(cell)
    return f"{percent} {low}-{high} n{cell.n}{labels.marks(cell)}"


def _legend(board: Leaderboard) -> list[str]:
    """The legend, with the short statuses that occur."""
    legend = labels.legend(board, ". or no line")
    statuses = {cell.status for cell in board.cells}
    short = {"unsupported": "the model cannot do that; the reason stands below.", "oom": "out of memory."}
    terms = {"Cells": legend.pop("Cells")} | {name: short[name] for name in short if name in statuses} | legend
    return [f"{_SHORT.get(term, term)}: {meaning}" for term, meaning in terms.items()]


def _published(beside: Sequence[reference.Beside]) -> Iterator[str]:
    """Others' numbers below a dashed line, then their sources."""
    yield "- " * (WIDTH // 2 - 1) + "-"
    yield from wrapped(reference.CAVEAT)
    sources = reference.sources(list(beside))
    numbers = {source: f"[{i}]" for i, source in enumerate(sources, start=1)}
    for each in beside:
        (_, _, _, *lengths), rows = each.table()
        yield from ("", *wrapped(f"published, not measured here: {each.name}"), "")
        shown = [[numbers[source, kind], printable(model, True), *cells] for model, source, kind, *cells in rows]
        yield from table(["from", "model", *lengths], shown, left=(1,), stub=2)
    yield ""
    for source, citation in sources.items():
        yield from wrapped(f"{numbers[source]} {citation}", "    ")
    for note in reference.notes(list(beside)):
        yield from wrapped(note, "    ")
