"""A table in 80 columns: names, then cells of one piece or several, in as many parts as they take.

    row = Line(("1", "atlas-nano", "1K"), [("99.2", "98-100", "n400"), (".",)])
    for line in table(("rank", "model", "eff."), ["1K", "4K"], [row]):
        print(line)

    rank model      eff.                1K  4K
       1 atlas-nano   1K  99.2 98-100 n400   .

Where that is too wide the pieces of a cell stand below each other, and columns that do not fit in a further part.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

WIDTH = 80
NAME_WIDTH = 24  # of names beside more columns than fit on one line


@dataclass(frozen=True)
class Line:
    """A row: (rank, name, effective length), of which the name may fold, and the pieces of each column's cell."""

    left: tuple[str, str, str]
    cells: Sequence[tuple[str, ...]]


def table(heads: tuple[str, str, str], columns: Sequence[str], rows: Sequence[Line]) -> Iterator[str]:
    """The table's lines; a row that is blank in all columns of a part, or a ".", is left out there.

    All texts are printable ASCII: len() is their width.
    """
    first, longest, last = (max(map(len, (head, *(row.left[i] for row in rows)))) for i, head in enumerate(heads))
    stacked = [[row.cells[i] for row in rows] for i in range(len(columns))]  # by column
    beside = [_joined(column) for column in stacked]
    room = WIDTH - first - last - 2
    shown = beside if room - sum(_widths(columns, beside)) >= min(longest, NAME_WIDTH) else stacked
    widths = _widths(columns, shown)
    name = min(longest, room - sum(widths) if shown is beside else NAME_WIDTH)
    for start, stop in _parts(widths, room - name):
        yield from [""] if start else []
        cells = [[(head,) for head in columns[start:stop]], *zip(*shown[start:stop], strict=True)]
        for left, pieces in zip((heads, *(row.left for row in rows)), cells, strict=True):
            if any(piece not in (("",), (".",)) for piece in pieces):
                yield from _lines(left, pieces, (first, name, last), widths[start:stop])


def _parts(widths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the columns that fit side by side, one at least."""
    start = 0
    for stop in range(1, len(widths) + 1):
        if stop == len(widths) or sum(widths[start : stop + 1]) > room:
            yield start, stop
            start = stop


def _lines(
    left: tuple[str, str, str], cells: Sequence[tuple[str, ...]], sizes: tuple[int, int, int], widths: Sequence[int]
) -> Iterator[str]:
    """One row: as many lines as its cells take, and before them a name that is too long for its column."""
    rank, name, effective = left
    first, middle, last = sizes
    if len(name) > middle:
        yield from textwrap.wrap(f"{rank:>{first}} {name}", WIDTH, subsequent_indent=" " * (first + 1))
        rank = name = ""
    for part, *pieces in zip_longest([name], *cells, fillvalue=""):
        row = f"{rank:>{first}} {part:<{middle}} {effective:>{last}}"
        yield (row + "".join(f"{piece:>{width}}" for piece, width in zip(pieces, widths, strict=True))).rstrip()
        rank = effective = ""  # on the first line only


def _joined(column: Sequence[tuple[str, ...]]) -> list[tuple[str]]:
    """Each cell in one piece, in which the pieces of those that have several are aligned."""
    several = [cell for cell in column if len(cell) > 1]
    widths = [max(map(len, pieces)) for pieces in zip(*several, strict=True)] if several else []
    return [(" ".join(map(str.rjust, cell, widths)),) if len(cell) > 1 else cell[:1] for cell in column]


def _widths(columns: Sequence[str], shown: Sequence[Sequence[tuple[str, ...]]]) -> list[int]:
    """Of each column, with two spaces before it."""
    found = zip(columns, shown, strict=True)
    return [2 + max(len(head), *(len(piece) for cell in column for piece in cell)) for head, column in found]
