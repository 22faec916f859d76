"""A leaderboard as one HTML file: heat maps, details of the cells, figures, maps and curves, others' numbers.

The heat maps are always whole. Each cell is a link to its answers where there is a page of all answers; else it opens
to its details, if there are at most DETAILS of them. The page says what it leaves out. So 100,000 records fit a page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from atlas_bench.results import breakdowns, labels
from atlas_bench.results import reference as others
from atlas_bench.results.html.chart import Figure, chart
from atlas_bench.results.html.facts import common, facts, scores
from atlas_bench.results.html.figures import of_panel
from atlas_bench.results.html.template import render
from atlas_bench.results.leaderboard import COLUMNS, Leaderboard, headed, shown
from atlas_bench.results.panels import Cell, Panel, shade
from atlas_bench.results.record import cell_key
from atlas_bench.units import format_length

DETAILS, FIGURES, GRIDS = 200, 20, 60  # at most on one page
STEPS = 10  # of the ramp in style.css, above the neutral one


def leaderboard(
    board: Leaderboard,
    *,
    published: bool,
    title: str = "atlas-bench leaderboard",
    command: str = "",
    answers: Mapping[str, str] | None = None,
) -> str:
    """The page as one self-contained HTML text.

    published  whether to show others' numbers beside the measured ones; a switch on the page hides them
    command    that made the page, for its foot
    answers    cell_key -> address on the page of all answers (html/answers.py), None where there is no such page
    """
    sections = [_section(board, number, published) for number in range(len(board.panels))]
    (grids, few_left_out), (figures, figures_left_out) = breakdowns.telling(board), _figures(board.panels)
    places = {id: cell for section in sections for id, _, _, cell in section["places"]}
    extra = _uncounted(board)
    opened = not answers and len(places) + len(extra) <= DETAILS
    keys = {id: cell_key(cell.all[0].record) for id, cell in places.items()} if answers else {}
    return render(
        "leaderboard.html.j2",
        script="leaderboard.js",
        title=title,
        board=board,
        about=_about(board),
        sections=sections,
        extra=extra,
        opened=opened,
        links={id: f"#{id}" for id in places if opened} | {id: (answers or {}).get(keys[id], "") for id in keys},
        left_out=0 if opened or answers else len(places) + len(extra),
        figures=figures,
        figures_left_out=figures_left_out,
        grids=grids[:GRIDS],
        few_left_out=few_left_out,
        grids_left_out=len(grids[GRIDS:]),
        answers=next(iter(answers.values())).partition("#")[0] if answers else "",
        others=others if published else None,
        tables=list(_tables(board.panels)) if published else [],
        columns=headed()[3:],  # behind rank, model and effective length, which the template names
        command=command,
        steps=range(STEPS + 1),
        COLUMNS=COLUMNS,
        labels=labels,
        lines=others.lines,
        **{each.__name__: each for each in (chart, common, facts, heat, scores, shown, step)},
    )


def _section(board: Leaderboard, number: int, published: bool) -> dict[str, Any]:
    """A panel with what the page needs beside it; others' numbers stand in the first panel of a task and subset.

    columns   (length, whether only published rows have it)
    contexts  numbers of contexts in the cells whose questions share contexts
    places    (id, row, length, cell); ids are made of numbers, because names are foreign text
    """
    panel = board.panels[number]
    first = panel.name not in [other.name for other in board.panels[:number]]
    theirs = others.of(panel.task, panel.subset) if published and first else []
    lengths = {row.length for row in theirs if row.length is not None}.union(panel.lengths)
    return {
        "id": f"p{number}",
        "panel": panel,
        "theirs": theirs,
        "columns": [(length, length not in panel.lengths) for length in sorted(lengths)],
        "contexts": sorted({cell.contexts for cell in panel.cells if labels.shares(cell)}),
        "notes": labels.notes(panel.cells),
        "places": [
            (f"p{number}-{i}-{length}", row, length, cell)
            for i, row in enumerate(panel.rows)
            for length, cell in row.cells.items()
        ],
    }


def _figures(panels: Sequence[Panel]) -> tuple[dict[int, list[Figure]], bool]:
    """(number of a panel -> its figures, whether some are left out): FIGURES at most, as many of each panel as fit."""
    drawn: dict[int, list[Figure]] = {i: [] for i in range(len(panels))}
    turns = ((i, each) for turn in zip_longest(*map(of_panel, panels)) for i, each in enumerate(turn) if each)
    for i, figure in islice(turns, FIGURES):
        drawn[i].append(figure)
    return drawn, next(turns, None) is not None


def _uncounted(board: Leaderboard) -> list[Cell]:
    """The records that no panel counts, older ones too, each as a cell of its own."""
    counted = {id(each) for cell in board.cells for each in cell.all}
    return [Cell.of([each]) for each in (*board.summaries, *board.older) if id(each) not in counted]


def _about(board: Leaderboard) -> dict[str, Any]:
    """Numbers of cells and models, the first and last day, and the versions that measured."""
    records = [each.record for each in board.summaries]
    days = sorted(day[:10] for record in records for day in (record.started, record.ended) if day)
    return {
        "cells": sum(1 for _ in board.cells),
        "models": len({record.model for record in records}),
        "days": list(dict.fromkeys((days[0], days[-1]))) if days else [],
        "versions": sorted({str(record.versions.get("atlas_bench", "unknown")) for record in records}),
    }


def step(accuracy: float, chance: float | None) -> int:
    """The step of the colour ramp: 0 at chance or below, STEPS above nine tenths of the way to perfect."""
    return min(STEPS, math.ceil(STEPS * shade(accuracy, chance) - 1e-9))


def heat(cell: Cell, chance: float | None) -> tuple[str, list[str]]:
    """(CSS class, lines of text) of a cell of the heat map: its score, its metrics, or its status."""
    if cell.status != "ok":
        return f"none {cell.status}", [cell.status]
    if not cell.n:
        lines = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in cell.metrics.items()]
        return "plain", lines[:3] or ["n=0"]
    percent, low, high = labels.numbers(cell)
    lines = [percent, f"{low}-{high}", f"n={cell.n}{labels.marks(cell).replace('!', '')}"]
    for status, count in Counter(each.record.status for each in cell.without).items():
        lines.append(f"{count} of {len(cell.all)} {status}")
    return f"h{step(cell.correct / cell.n, chance)}", lines


def _tables(panels: Sequence[Panel]) -> Iterator[tuple[str, str, list[str], list[others.Line]]]:
    """(title, note, columns, lines) of each table of published numbers that stand beside no panel."""
    beside = {row for panel in panels for row in others.of(panel.task, panel.subset)}
    for key, table in others.TABLES.items():
        rows = [row for row in others.ROWS if row.table == key and row not in beside]
        subsets = list(dict.fromkeys(row.subset for row in rows)) if table.by_length else [""]
        for i, subset in enumerate(subsets):

            def column(row: others.Published, by_length: bool = table.by_length) -> str:
                length = "" if row.length is None else format_length(row.length)
                return length if by_length else f"{row.subset} {length}".strip()

            group = [row for row in rows if subset in ("", row.subset)]
            ordered = sorted(group, key=lambda row: row.length or 0) if table.by_length else group
            if group:
                heading = f"{table.title}: {subset}" if subset else table.title
                columns = list(dict.fromkeys(map(column, ordered)))
                yield heading, "" if i else table.note, columns, others.lines(group, column)
