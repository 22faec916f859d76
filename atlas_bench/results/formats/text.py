"""Tables for a terminal, and the leaderboard as ASCII text of 80 columns.

print(text(board, reference.beside({"babilong:qa1": ("babilong", "qa1")})))

babilong:qa1
  task version 1; scorer babilong/official version 1; chance 16.7 %

rank model      effective                1K  4K
   1 atlas-nano        1K  99.2 98-100 n400   .
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from atlas_bench.results import breakdowns, labels, leaderboard, reference
from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.naming import printable
from atlas_bench.results.panels import Cell, Panel
from atlas_bench.results.record import clip

WIDTH = 80
NAME_WIDTH = 24  # of names beside more columns than fit on one line
HEAD_WIDTH = 12  # of a heading; a longer one stands on several lines
_SHORT = {"unsupported": "unsup"}  # the other statuses are short

Pieces = tuple[str, ...]  # of a cell; they stand below each other where side by side they are too wide


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str | Pieces]], *, left: Sequence[int] = (0,),
    stub: int | None = None, gap: int = 1, width: int = WIDTH, rule: bool = False,
) -> Iterator[str]:  # fmt: skip
    """The lines of a table, the only one that atlas-bench prints; nothing is cut, whatever the names.

    left   columns of names: they are aligned left, and a name too long for its column stands once above its rows
    stub   how many first columns are repeated where not all fit side by side, None: all stand in one part; a row that
           is blank or "." in all columns of a part is left out there
    gap    spaces before each column behind the stub
    rule   whether a line is drawn below the headings

    All texts are printable; of what is no str the pieces are aligned.
    """
    stub = len(heads) if stub is None else stub
    pieces = [[(row[i],) if isinstance(row[i], str) else row[i] for row in rows] for i in range(len(heads))]
    joined = [_joined(column) for column in pieces]
    capped = [min(size, NAME_WIDTH) if i in left and i < stub else size for i, size in enumerate(_sizes(heads, joined))]
    gaps = [0] + [1] * (stub - 1) + [gap] * (len(heads) - stub)
    one_part = stub == len(heads) or sum(capped) + sum(gaps) <= width
    shown = joined if one_part else pieces
    sizes = _sizes(heads, shown)
    room = width - sum(capped[:stub]) - sum(gaps[:stub])
    for first, last in [(stub, len(heads))] if one_part else _parts(sizes, gap, stub, room):
        chosen = [*range(stub), *range(first, last)]
        part = _Part(dict(zip(chosen, _fitted(sizes, chosen, left, gaps, width), strict=True)), gaps, left)
        yield from [""] if first > stub else []
        yield from part.headings(heads)
        if rule:
            yield "-" * (sum(part.sizes.values()) + sum(gaps[i] for i in chosen))
        above = ""
        for row in zip(*(shown[i] for i in chosen), strict=True):
            cells = dict(zip(chosen, row, strict=True))
            if stub < len(heads) and all(cells[i] in (("",), (".",)) for i in range(first, last)):
                continue
            long = [i for i in left if i in cells and len(cells[i][0]) > part.sizes[i]]
            names = " ".join(cells[i][0] for i in long)
            if names != above:
                yield from textwrap.wrap(names, width, break_on_hyphens=False)
            above = names if long or cells[chosen[0]][0] else above
            yield from part.lines({i: ("",) if i in long else cell for i, cell in cells.items()})


@dataclass(frozen=True)
class _Part:
    """The columns of a table that stand side by side: index -> characters."""

    sizes: dict[int, int]
    gaps: Sequence[int]
    left: Sequence[int]

    def headings(self, heads: Sequence[str]) -> Iterator[str]:
        """On as many lines as the longest takes, aligned at the bottom."""
        folded = {i: textwrap.wrap(heads[i], size) or [""] for i, size in self.sizes.items()}
        height = max(map(len, folded.values()), default=0)
        return self.lines({i: (*[""] * (height - len(head)), *head) for i, head in folded.items()})

    def lines(self, cells: dict[int, Pieces]) -> Iterator[str]:
        """A row, on as many lines as its cells have pieces."""
        for pieces in zip_longest(*cells.values(), fillvalue=""):
            line = ""
            for text, (i, size) in zip(pieces, self.sizes.items(), strict=True):
                line += " " * self.gaps[i] + (f"{text:<{size}}" if i in self.left else f"{text:>{size}}")
            yield line.rstrip()


def _joined(column: Sequence[Pieces]) -> list[Pieces]:
    """Each cell in one piece, in which the pieces of those that have several are aligned."""
    several = [cell for cell in column if len(cell) > 1]
    widths = [max(map(len, pieces)) for pieces in zip(*several, strict=True)] if several else []
    return [(" ".join(map(str.rjust, cell, widths)),) if len(cell) > 1 else cell[:1] for cell in column]


def _sizes(heads: Sequence[str], columns: Sequence[Sequence[Pieces]]) -> list[int]:
    """Characters that each column takes."""
    return [
        max([min(len(head), HEAD_WIDTH), *(len(piece) for cell in column for piece in cell)])
        for head, column in zip(heads, columns, strict=True)
    ]


def _parts(sizes: Sequence[int], gap: int, stub: int, room: int) -> Iterator[tuple[int, int]]:
    """(first, behind the last) of the columns behind the stub that stand side by side, one at least."""
    first = stub
    for last in range(stub + 1, len(sizes) + 1):
        if last == len(sizes) or sum(size + gap for size in sizes[first : last + 1]) > room:
            yield first, last
            first = last


def _fitted(
    sizes: Sequence[int], chosen: Sequence[int], left: Sequence[int], gaps: Sequence[int], width: int
) -> list[int]:
    """The sizes of the chosen columns, in which names share the room that numbers leave."""
    names = {i: sizes[i] for i in chosen if i in left}
    room = width - sum(gaps[i] for i in chosen) - sum(sizes[i] for i in chosen if i not in left)
    while sum(names.values()) > room and max(names.values(), default=0) > 5:
        names[max(names, key=lambda i: (names[i], -i))] -= 1
    return [names.get(i, sizes[i]) for i in chosen]


def wrapped(text: str, later: str = "", first: str = "") -> list[str]:
    """A sentence in lines of 79 columns, in ASCII, with control characters as escapes."""
    shown = printable(" ".join(text.split()), True)
    return textwrap.wrap(shown, WIDTH - 1, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def text(
    board: Leaderboard, beside: Sequence[reference.Beside], *, title: str = labels.TITLE, command: str = ""
) -> str:
    """The leaderboard as text: panels, breakdowns, how to read them, reasons, others' numbers.

    beside  what others published, from reference.beside(); empty to leave it out
    """
    out = wrapped(f"{title}: {labels.number(board)}")
    for panel in board.panels:
        out += ["", *wrapped(panel.name), *wrapped("; ".join(labels.facts(panel)), "  ", "  "), "", *_panel(panel)]
    for grid in breakdowns.grids(board):
        out += ["", *grid_lines(grid)]
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
    made = leaderboard.table(panel, _pieces).rename(columns={"effective": "eff."})
    rows = [
        [printable(clip(cell, labels.NAME_CHARS), True) if isinstance(cell, str) else cell for cell in row]
        for row in made.to_numpy()
    ]
    stub = len(made.columns) - len(panel.lengths)
    return table(list(made.columns), rows, left=[list(made.columns).index("model")], stub=stub, gap=2)


def _pieces(cell: Cell | None, panel: Panel) -> str | Pieces:
    """('99.2', '98-100', 'n400'), 'oom' or, where nothing was run, '.'."""
    if cell is None:
        return "."
    if not cell.counted:
        return _SHORT.get(cell.status, cell.status)
    if not cell.n:
        return labels.bare(cell, panel) + labels.marks(cell)
    percent, low, high = labels.numbers(cell)
    return percent, f"{low}-{high}", f"n{cell.n}{labels.marks(cell)}"


def _legend(board: Leaderboard) -> list[str]:
    """What the signs mean that occur."""
    cells, *others = (line.replace("effective: ", "eff.: ") for line in labels.legend(board, ". or no line"))
    statuses = {cell.status for cell in board.cells}
    short = {"unsupported": "unsup: the model cannot read that length.", "oom": "oom: out of memory."}
    return [cells, *(meaning for status, meaning in short.items() if status in statuses), *others]


def _published(beside: Sequence[reference.Beside]) -> Iterator[str]:
    """Others' numbers under a dashed line, their sources below."""
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
