"""A board as one HTML file: heat maps, details of the cells, figures, maps and curves, others' numbers.

    html = leaderboard(board, published=True, command="atlas-bench report results -o page.html")

The heat maps are always whole. Figures are drawn until they have FIGURES bytes, the first of each panel before the
second of any. Where a page of all answers is written too, each cell is a link to its place there; else details of cells
are added, in their order, until the page has BUDGET bytes. What is left out is said. So 100,000 records make a page
too, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from markupsafe import Markup

from atlas_bench.results import breakdowns, labels
from atlas_bench.results import reference as others
from atlas_bench.results.html import heat
from atlas_bench.results.html.detail import cell_parts, facts, percent, shared
from atlas_bench.results.html.figures import Figure, of_panel
from atlas_bench.results.html.template import render
from atlas_bench.results.leaderboard import Column, Leaderboard, headed, shown
from atlas_bench.results.panels import Cell, Panel, Row
from atlas_bench.results.record import cell_key
from atlas_bench.units import format_length

BUDGET = 488_000  # bytes that details may fill the page up to
FIGURES = 150_000  # bytes after which no further figure is drawn
GRIDS = 60

Found = tuple[str, Row, int, Cell]  # a cell: id of its detail, row, length


@dataclass(frozen=True)
class Section:
    """A panel as the page shows it.

    columns   (length, whether only published rows have it)
    lines     published rows
    contexts  fewest and most of the cells whose questions share contexts
    """

    id: str
    title: str
    panel: Panel
    columns: list[tuple[int, bool]]
    lines: list[heat.PublishedLine]
    contexts: tuple[int, int] | None
    figures: list[Figure]

    @property
    def noted(self) -> str:
        """What '#' means, where a cell has it."""
        return labels.NOTED if any(map(labels.is_noted, self.panel.cells)) else ""

    def cells(self) -> Iterator[Found]:
        """All cells; an id is made of numbers, since a name is anyone's text."""
        for i, row in enumerate(self.panel.rows):
            for length, cell in row.cells.items():
                yield f"{self.id}-{i}-{length}", row, length, cell

    def cells_of(self, i: int, links: Mapping[str, str]) -> Markup:
        """The table cells of the row i; `links` has the address of a cell's detail by its id."""
        row, chance = self.panel.rows[i], self.panel.chance
        return Markup(
            "".join(
                heat.table_cell(
                    row.cells.get(length), chance, format_length(length), links.get(f"{self.id}-{i}-{length}", "")
                )
                for length, _ in self.columns
            )
        )

    @cached_property
    def common(self) -> frozenset[str]:
        """Fields that all records of the panel share, told once."""
        return shared(self.panel.cells)

    def common_facts(self) -> dict[str, str]:
        """Heading -> the facts in common."""
        cell = next(iter(self.panel.rows[0].cells.values()))
        return facts(cell.all[0].record, fields=self.common)


def leaderboard(
    board: Leaderboard,
    *,
    published: bool,
    title: str = "atlas-bench leaderboard",
    command: str = "",
    answers: Mapping[str, str] | None = None,
) -> str:
    """The page as one self-contained HTML text; its script sorts and filters, and may do nothing else.

    published  whether others' numbers stand beside the measured ones, where a switch hides them
    command    what made it, for the foot of the page
    answers    cell_key -> address on the page of all answers, where there is one: html/answers.py
    """
    drawn = _figures(board.panels)
    sections = [
        _section(i, panel, drawn[i], published and all(panel.name != other.name for other in board.panels[:i]))
        for i, panel in enumerate(board.panels)
    ]
    grids = breakdowns.grids(board)
    context = {
        "title": title,
        "board": board,
        "facts": _summary(board),
        "sections": sections,
        "uncounted": _uncounted(board),
        "grids": grids[:GRIDS],
        "grids_left_out": len(grids[GRIDS:]),
        "figures_left_out": sum(len(each.svg) for figures in drawn for each in figures) >= FIGURES,
        "answers": next(iter(answers.values())).partition("#")[0] if answers else "",
        "others": others if published else None,
        "more_columns": _more_columns(),
        "shown": shown,
        "tables": _tables(sections) if published else [],
        "command": command,
        "step": heat.step,
        "steps": range(heat.STEPS + 1),
    }
    if answers:
        found = (found for section in sections for found in section.cells())
        return _rendered(context, links={id: _link(cell, answers) for id, _, _, cell in found})
    number = context["facts"]["cells"] + len(context["uncounted"])
    bare = _rendered(context, left_out=number)
    room = BUDGET - len(bare.encode())
    if room <= 0:
        return bare
    cells = chain(
        ((found, section.common) for section in sections for found in section.cells()),
        ((found, frozenset()) for found in context["uncounted"]),
    )
    details = _details(cells, room)
    links = {id: f"#{id}" for id in details}
    return _rendered(context, details=details, links=links, left_out=number - len(details))


def _rendered(
    context: Mapping[str, Any],
    *,
    details: Mapping[str, Markup] | None = None,
    links: Mapping[str, str] | None = None,
    left_out: int = 0,
) -> str:
    return render(
        "leaderboard.html.j2", script="leaderboard.js", details=details or {}, links=links or {}, left_out=left_out,
        **context,
    )  # fmt: skip


def _link(cell: Cell, answers: Mapping[str, str]) -> str:
    """Where the answers of a cell's first record are."""
    first = cell.all[0].record
    return answers.get(cell_key(first), "")


def _more_columns() -> list[Column]:
    """Columns with a heading behind rank, model and effective length, which the template names."""
    return headed()[3:]


def _section(i: int, panel: Panel, drawn: list[Figure], published: bool) -> Section:
    """A panel's section; others' rows stand in the first panel of their task and subset alone."""
    rows = others.of(panel.task, panel.subset) if published else []
    theirs = {row.length for row in rows if row.length is not None}
    return Section(
        f"p{i}",
        panel.name + panel.unusual,
        panel,
        [(length, length not in panel.lengths) for length in sorted({*panel.lengths, *theirs})],
        heat.published_lines(rows),
        heat.contexts(panel),
        drawn,
    )


def _figures(panels: Sequence[Panel]) -> list[list[Figure]]:
    """The figures of each panel, until they have FIGURES bytes: the first of every panel, then the second, .."""
    room, drawn = FIGURES, [[] for _ in panels]
    waiting = {i: of_panel(panel, f"p{i}") for i, panel in enumerate(panels)}
    while waiting:
        for i, coming in list(waiting.items()):
            if room > 0 and (figure := next(coming, None)):
                drawn[i].append(figure)
                room -= len(figure.svg)
            else:
                del waiting[i]
    return drawn


def _uncounted(board: Leaderboard) -> list[Found]:
    """Records that no panel counts, older ones too, each as a cell of its own."""
    counted = {id(each) for cell in board.cells for each in cell.all}
    found = []
    for i, each in enumerate(each for each in (*board.summaries, *board.older) if id(each) not in counted):
        ok = each.record.status == "ok"
        cell = Cell((each,) if ok else (), () if ok else (each,))
        row = Row(f"{each.record.model}, {each.record.task} {each.record.subset}".strip(), {each.record.length: cell})
        found.append((f"x-{i}", row, each.record.length, cell))
    return found


def _details(cells: Iterable[tuple[Found, frozenset[str]]], room: int) -> dict[str, Markup]:
    """Id -> HTML of the details of as many cells as there is room for."""
    details: dict[str, Markup] = {}
    for (id, row, length, cell), common in cells:
        parts = cell_parts(cell, common=common)
        score = (
            f"{cell.correct:g}/{cell.n} right, {percent(cell.correct, cell.n, cell.interval)}"
            if cell.n
            else cell.status
        )
        html = Markup(render("cell.html.j2", id=id, model=row.model, length=length, score=score, parts=parts))
        room -= len(html.encode()) + len(f'<a href="#{id}"></a>')
        if room < 0:
            break
        details[id] = html
    return details


def _summary(board: Leaderboard) -> dict[str, Any]:
    """How much there is, from when, and made by which versions."""
    records = [each.record for each in board.summaries]
    days = sorted(day[:10] for record in records for day in (record.started, record.ended) if day)
    return {
        "records": len(records),
        "older": len(board.older),
        "cells": sum(len(row.cells) for panel in board.panels for row in panel.rows),
        "models": len({record.model for record in records}),
        "days": list(dict.fromkeys((days[0], days[-1]))) if days else [],
        "versions": sorted({str(record.versions.get("atlas_bench", "unknown")) for record in records}),
    }


def _tables(sections: Sequence[Section]) -> list[tuple[str, str, list[str], list[heat.PublishedLine]]]:
    """(title, note, columns, lines) of the published numbers that stand beside no panel."""
    beside = {row for section in sections for row in others.of(section.panel.task, section.panel.subset)}
    tables = []
    for key, table in others.TABLES.items():
        rows = [row for row in others.ROWS if row.table == key and row not in beside]
        groups = list(dict.fromkeys(row.subset for row in rows)) if table.by_length else [None]
        for i, subset in enumerate(groups):
            group = [row for row in rows if subset in (None, row.subset)]
            if group:
                heading = f"{table.title}: {subset}" if subset else table.title
                tables.append(
                    (heading, "" if i else table.note, *heat.published_table(group, by_length=table.by_length))
                )
    return tables
