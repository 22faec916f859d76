"""The texts of a leaderboard that all forms share: facts of a panel, numbers of a cell, reasons, legend.

    facts(panel)                # ['task version 1', 'scorer babilong/official version 1', 'chance 16.7 %']
    sentence(cell, panel)       # '97.0 (93-99), n=200'

Names, reasons and commands come from records, which anybody may have written. They are clipped here; each form escapes
them in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from atlas_bench.results.leaderboard import Leaderboard
from atlas_bench.results.naming import NAME_CHARS, reason
from atlas_bench.results.panels import Cell, Panel
from atlas_bench.results.record import Record, clip
from atlas_bench.results.score import interval_words, is_sequential, is_shared, is_untrained
from atlas_bench.units import counted, format_length

TITLE = "atlas-bench report"
STATUS = {"oom": "out of memory", "timeout": "timed out"}  # in words; the others say it themselves
SHARED = "questions share contexts; the interval is over contexts, and wide where these are few."


class Note(NamedTuple):
    """A kind of remark on a score: which records have it, and what a legend and a cell say of it."""

    applies: Callable[[Record], bool]
    meaning: str
    words: str


def _has_other_note(record: Record) -> bool:
    """Whether a record has a note that no other kind stands for, such as: answers were judged in part."""
    told = is_untrained(record) or is_sequential(record)
    return bool(record.note and not told) or any(each.get("cut") for each in record.rescored or ())


NOTES = {
    "#": Note(is_untrained, "by its card the model was never trained for this.", "never trained for this"),
    "^": Note(
        is_sequential,
        "the answers decided when to stop, so the interval is a confidence sequence, which holds at any stop.",
        "a confidence sequence",
    ),
    "?": Note(_has_other_note, "the record has a note; the JSON form shows its text.", "has a note"),
}
MARKS = {"*": SHARED, "!": "another seed has no score.", **{mark: note.meaning for mark, note in NOTES.items()}}
RANK_RULE = (
    "1 + the number of models above it. A is above B where A's interval lies wholly above B's at some length that both"
    " have, and B's above A's at none. -: no other model has a score at its lengths."
)


def facts(panel: Panel) -> list[str]:
    """['task version 1', 'scorer babilong/official version 1', 'chance 16.7 %', 'data=generated']"""
    scorer = f"scorer {panel.scorer} version {panel.scorer_version or 'unknown'}"
    facts = [f"task version {panel.task_version}", scorer if panel.scorer else f"no scorer: {metric(panel)}"]
    facts += [] if panel.chance is None else [f"chance {100 * panel.chance:.1f} %"]
    return [clip(fact, NAME_CHARS) for fact in (*facts, *(f"{name}={value}" for name, value in panel.options.items()))]


def number(board: Leaderboard) -> str:
    """'175 records, and 9 older of the same cells left out'"""
    text = counted(len(board.summaries), "record")
    return text + (f", and {len(board.older):,} older of the same cells left out" if board.older else "")


def metric(panel: Panel) -> str:
    """The name of the metric that the cells of a panel without a scorer show."""
    return next((name for _, _, cell in panel.places() for name in cell.metrics), "nothing measured")


def numbers(cell: Cell) -> tuple[str, str, str]:
    """('99.2', '98', '100'): per cent right, and the ends of the interval."""
    low, high = cell.interval
    return f"{100 * (cell.accuracy or 0):.1f}", f"{100 * low:.0f}", f"{100 * high:.0f}"


def bare(cell: Cell, panel: Panel) -> str:
    """The text of a cell without answers: the panel's metric, '-' where it has another, 'n0' where it has none."""
    if not cell.metrics:
        return "n0"
    value = cell.metrics.get(metric(panel))
    return "-" if value is None else f"{value:.4g}"


def sentence(cell: Cell | None, panel: Panel) -> str:
    """'97.0 (93-99), n=200', 'out of memory', or '' where nothing was run."""
    if cell is None:
        return ""
    if not cell.counted:
        return STATUS.get(cell.status, cell.status)
    text = bare(cell, panel)
    if cell.n:
        percent, low, high = numbers(cell)
        text = f"{percent} ({low}-{high}), n={cell.n}"
        text += f" on {counted(cell.contexts, 'context')}" if shares(cell) else ""
        text += "" if cell.score.design_effect is None else f", design effect {cell.score.design_effect:.1f}"
    text += "".join(f"; {NOTES[mark].words}" for mark in notes([cell]))
    return text + "".join(f"; seed {each.record.seed} {each.record.status}" for each in cell.without)


def reasons(board: Leaderboard) -> Iterator[str]:
    """A line for each model and reason why it has no score: 'babilong:qa1 64K, 1M m: unsupported: ..'."""
    for panel in board.panels:
        lengths: dict[tuple[str, str, str], dict[str, None]] = {}
        for row, length, cell in panel.places():
            for record in (each.record for each in cell.without):
                lengths.setdefault((row.model, record.status, reason(record)), {})[format_length(length)] = None
        for (model, status, why), at in lengths.items():
            yield f"{panel.name} {', '.join(at)} {clip(model, NAME_CHARS)}: {status}: {why}"


def marks(cell: Cell) -> str:
    """The marks behind a score: see MARKS."""
    return "*" * shares(cell) + "!" * bool(cell.counted and cell.without) + "".join(notes([cell]))


def notes(cells: Iterable[Cell]) -> list[str]:
    """The marks of the notes that records of the cells have."""
    return note_marks(each.record for cell in cells for each in cell.counted)


def note_marks(records: Iterable[Record]) -> list[str]:
    """The marks of the notes that some records have: see NOTES."""
    found = list(records)
    return [mark for mark, note in NOTES.items() if any(map(note.applies, found))]


def cell_words(cells: Iterable[Cell]) -> str:
    """What the numbers of a cell are: '% right, its 95 % Wilson interval, n questions'."""
    anytime = [cell.score.spread.anytime for cell in cells if cell.n]
    return f"% right, its {interval_words(anytime)}, n questions"


def shares(cell: Cell) -> bool:
    """Whether questions share contexts; False for records without answers, which do not tell."""
    return is_shared(cell.contexts, cell.n)


def legend(board: Leaderboard, blank: str) -> dict[str, str]:
    """Term -> meaning, for "Cells" and for the marks and columns that occur.

    blank  what stands in a cell that was not run
    """
    found = {mark for cell in board.cells for mark in marks(cell)}
    explained = {mark: meaning for mark, meaning in MARKS.items() if mark in found}
    if not any(cell.n for cell in board.cells):
        return {"Cells": f"the metric named above them; {blank}: not run."} | explained
    lower = (
        f"effective length, the longest whose lower bound, before it is rounded, reaches {100 * board.threshold:g} %."
    )
    return {
        "Cells": f"{cell_words(board.cells)}; {blank}: not run.", **explained,
        "effective": f"{lower} -: none does.", "rank": RANK_RULE,
    }  # fmt: skip
