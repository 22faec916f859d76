"""What every form of a report says of a board, in plain words: facts of a panel, numbers of a cell, reasons, notes.

    facts(panel)                # ['task version 1', 'scorer babilong/official version 1', 'chance 16.7 %']
    numbers(cell)               # ('99.2', '98', '100')
    beside(board)[0].lengths    # [0, 1000, 2000, ..]: what others published for babilong:qa1

Names, reasons and commands come from records, which anybody may have written. They are clipped here; each form makes
them harmless in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from atlas_bench.results import published
from atlas_bench.results.board import Board, Cell, Panel, Row
from atlas_bench.results.published import Published
from atlas_bench.results.record import clip
from atlas_bench.units import format_length

TITLE = "atlas-bench report"
CELL = "% right, its 95 % Wilson interval, n questions"
NAME_CHARS, REASON_CHARS = 120, 400  # of foreign text, after which it is clipped
STATUS = {"oom": "out of memory", "timeout": "timed out"}  # in words; the others say it themselves
SHARED = "questions share contexts; the interval is over contexts, and wide where these are few."
NOTED = "by its card the model was never trained for this."
MARKS = {"*": SHARED, "!": "another seed has no score.", "#": NOTED}
RANK_RULE = (
    "a model has one of its own only where the interval of the first of the rank before lies wholly above its own,"
    " at the longest length with a score of both."
)


@dataclass(frozen=True)
class Beside:
    """What others published for a task and subset: a line for each model, source and kind.

    name   "babilong:qa1"
    lines  (model, source, kind) -> length -> row
    """

    name: str
    lines: dict[tuple[str, str, str], dict[int | None, Published]]

    @property
    def lengths(self) -> list[int | None]:
        found = {length for cells in self.lines.values() for length in cells}
        return sorted(found, key=lambda length: -1 if length is None else length)

    @property
    def rows(self) -> list[Published]:
        return [row for cells in self.lines.values() for row in cells.values()]


def beside(board: Board) -> list[Beside]:
    """What others published for the board's panels, once for each task and subset that has any."""
    found = []
    for (task, subset), name in {(panel.task, panel.subset): panel.name for panel in board.panels}.items():
        lines: dict[tuple[str, str, str], dict[int | None, Published]] = {}
        for row in published.of(task, subset):
            lines.setdefault((row.model, row.source, row.kind), {})[row.length] = row
        found += [Beside(name, lines)] if lines else []
    return found


def facts(panel: Panel) -> list[str]:
    """['task version 1', 'scorer babilong/official version 1', 'chance 16.7 %', 'data=generated']"""
    scorer = f"scorer {panel.scorer} version {panel.scorer_version or 'unknown'}"
    facts = [f"task version {panel.task_version}", scorer if panel.scorer else f"no scorer: {metric(panel)}"]
    facts += [] if panel.chance is None else [f"chance {100 * panel.chance:.1f} %"]
    return [clip(fact, NAME_CHARS) for fact in (*facts, *(f"{name}={value}" for name, value in panel.options.items()))]


def number(board: Board) -> str:
    """'175 records, and 9 older ones of the same cells left out'"""
    said = f"{len(board.digests):,} record{'s' * (len(board.digests) != 1)}"
    return said + (f", and {len(board.older):,} older of the same cells left out" if board.older else "")


def metric(panel: Panel) -> str:
    """What stands in the cells of a panel without a scorer."""
    names = (name for row in panel.rows for cell in row.cells.values() for name in cell.metrics)
    return next(names, "nothing measured")


def numbers(cell: Cell) -> tuple[str, str, str]:
    """('99.2', '98', '100'): per cent and interval."""
    low, high = cell.interval
    return f"{100 * (cell.accuracy or 0):.1f}", f"{100 * low:.0f}", f"{100 * high:.0f}"


def bare(cell: Cell, panel: Panel) -> str:
    """A cell that has no per cent: the panel's metric, or that it has none, or that nothing was answered."""
    if not cell.metrics:
        return "n0"
    value = cell.metrics.get(metric(panel))
    return "-" if value is None else f"{value:.4g}"


def sentence(cell: Cell | None, panel: Panel) -> str:
    """'97.0 (93-99), n=200', 'out of memory', or nothing where nothing was run."""
    if cell is None:
        return ""
    if not cell.counted:
        return STATUS.get(cell.status, cell.status)
    said = bare(cell, panel)
    if cell.n:
        percent, low, high = numbers(cell)
        said = f"{percent} ({low}-{high}), n={cell.n}"
        said += f" on {cell.contexts} context{'s' * (cell.contexts != 1)}" if shares(cell) else ""
        said += "" if cell.design_effect is None else f", design effect {cell.design_effect:.1f}"
    said += "; never trained for this" * is_noted(cell)
    return said + "".join(f"; seed {each.record.seed} {each.record.status}" for each in cell.without)


def effective(row: Row) -> str:
    """'16K'; '-' where no length reaches the threshold, nothing where nothing was scored."""
    if row.effective is not None:
        return format_length(row.effective)
    return "-" if any(cell.n for cell in row.cells.values()) else ""


def rank(row: Row) -> str:
    return "" if row.rank is None else str(row.rank)


def cells(board: Board) -> Iterator[Cell]:
    return (cell for panel in board.panels for row in panel.rows for cell in row.cells.values())


def reasons(board: Board) -> Iterator[str]:
    """Why records have no score, a line for each model and reason: 'babilong:qa1 64K, 1M m: unsupported: ..'."""
    for panel in board.panels:
        for row in panel.rows:
            lengths: dict[tuple[str, str], dict[str, None]] = {}
            for length, cell in row.cells.items():
                for each in cell.without:
                    reason = clip(" ".join(each.record.reason.split()) or "no reason recorded", REASON_CHARS)
                    lengths.setdefault((each.record.status, reason), {})[format_length(length)] = None
            for (status, reason), at in lengths.items():
                yield f"{panel.name} {', '.join(at)} {clip(row.model, NAME_CHARS)}: {status}: {reason}"


def marks(cell: Cell) -> str:
    """What to mind about a score, '*', '!' and '#': see MARKS."""
    return "*" * shares(cell) + "!" * bool(cell.counted and cell.without) + "#" * is_noted(cell)


def is_noted(cell: Cell) -> bool:
    """Whether a record says that the model was never trained for this."""
    return any(each.record.note for each in cell.counted)


def shares(cell: Cell) -> bool:
    """Whether questions share contexts; of records without answers nobody knows, and none is said to."""
    return 0 < cell.contexts < cell.n


def explained(board: Board) -> list[str]:
    """The marks that occur, with what they mean."""
    found = {mark for cell in cells(board) for mark in marks(cell)}
    return [f"{mark}: {meaning}" for mark, meaning in MARKS.items() if mark in found]


def is_scored(board: Board) -> bool:
    """Whether any cell has a score: else there is nothing that a threshold or a rank could be about."""
    return any(cell.n for cell in cells(board))


def effective_rule(board: Board) -> str:
    return (
        f"effective length, the longest whose lower bound, before it is rounded, reaches {100 * board.threshold:g} %."
    )


def at(length: int | None) -> str:
    return "" if length is None else format_length(length)


def quoted(row: Published | None) -> str:
    """A published number, nothing where there is none."""
    return "" if row is None else f"{row.value:g}"


def source(key: str, kind: str) -> str:
    source = published.SOURCES[key]
    return " ".join(filter(None, (f"{source.citation}, {source.url}, {kind}.", source.note)))


def notes(found: Iterable[Beside]) -> list[str]:
    """The notes on published rows, each once, with the lines that it is about."""
    notes: dict[str, dict[str, None]] = {}
    for each in found:
        for row in each.rows:
            if row.note:
                notes.setdefault(row.note, {})[f"{each.name} {row.model}"] = None
    return [f"{', '.join(about)}: {note}" for note, about in notes.items()]
