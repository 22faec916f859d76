"""The records of a run as a plain table for a terminal. No colour, no rank: separability comes first."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from atlas_bench.errors import printable
from atlas_bench.results import breakdowns, naming
from atlas_bench.results.formats.text import grid_lines, table
from atlas_bench.results.labels import note_marks
from atlas_bench.results.leaderboard import make
from atlas_bench.results.naming import task_name
from atlas_bench.results.record import Record, clip
from atlas_bench.results.score import columns, interval_words, is_sequential, is_shared, score
from atlas_bench.results.store import latest
from atlas_bench.results.summary import reported, summaries
from atlas_bench.running.tags import tag_text, tags
from atlas_bench.units import counted, format_bytes, format_count, format_length

if TYPE_CHECKING:
    from rich.console import Console

_HEAD = ("task", "length", "model", "acc %", "n", "95 % int.", "tok/s", "state", "peak RSS")
_NAMES = (0, 2)  # columns of names, which stand left; numbers stand right


def render(records: Iterable[Record], console: Console) -> None:
    """Print one row per cell, then scorers, chance and the reason of every cell without a score.

    records  in any order; of several for one cell the latest counts
    console  80 columns are enough; what is no terminal gets ASCII only
    """
    cells = sorted(map(reported, latest(records)), key=lambda record: (record.task, record.subset, record.length))
    ascii_only = not console.is_terminal or console.options.ascii_only
    rows = [row for record, tag in zip(cells, _tags(cells), strict=True) for row in _rows(record, tag)]
    shown = [[printable(cell, ascii_only) for cell in row] for row in rows]
    lines = (
        list(table(_HEAD, shown, left=_NAMES, width=console.width, rule=True, group=2)) if cells else ["No records."]
    )
    for grid in breakdowns.telling(make(summaries(cells)))[0]:
        lines += ["", *grid_lines(grid)]
    lines += [""] if cells else []
    for note in _notes(cells):
        lines += textwrap.wrap(printable(note, ascii_only), max(20, console.width - 1), subsequent_indent="    ")
    for line in lines:
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _rows(record: Record, tag: str) -> list[list[str]]:
    """The cell's row, and one more for each further scorer that counts otherwise."""
    head = _headline(record)
    names = [" ".join(filter(None, (task_name(record), _mark(record)))), format_length(record.length)]
    names.append(f"{record.model} {tag}".strip())
    speed, sizes = record.tokens_per_second, (record.state_bytes, record.peak_rss_bytes)
    costs = ["" if speed is None else format_count(speed)]
    costs += ["" if size is None else format_bytes(size).replace(" ", "") for size in sizes]
    if record.status != "ok" or head not in record.scores:
        return [[*names, "", "", record.status, *costs]]
    others = [name for name in record.scores if name != head and record.scores[name] != record.scores[head]]
    rows = [[f"  /{name.rsplit('/', 1)[-1]}", "", "", *columns(score(record, name)), "", "", ""] for name in others]
    return [[*names, *columns(score(record, head)), *costs], *rows]


def _mark(record: Record) -> str:
    """The marks of the record's note, as reports have them; empty without a note."""
    return "".join(note_marks([record])) if record.note else ""


def _headline(record: Record) -> str:
    return record.headline or next(iter(record.scores), "")


def _tags(cells: Sequence[Record]) -> list[str]:
    """What tells apart cells of one task, length and model: 'seed=1 prompt=official'."""
    named = ("task", "subset", "length", "model", "seed", "samples", "options")
    facts = [
        {name: getattr(record, name) for name in named}
        | {"weights": (record.weights_hash or "-")[:8], "task version": record.task_version}
        for record in cells
    ]
    found = tags(facts, ("task", "subset", "length", "model"), ("seed", "samples", "weights", "task version"))
    return [tag_text(tag, "=", " ") for tag in found]


def _notes(cells: Sequence[Record]) -> list[str]:
    """Scorers with their version, chance by subset, and why a cell has no score."""
    named = [
        (name == _headline(record), f"{name} version {record.scorer_version.get(name, 'unknown')}")
        for record in cells
        for name in record.scores
    ]
    first, others = (
        ", ".join(dict.fromkeys(name for is_first, name in named if is_first == of)) for of in (True, False)
    )
    scored = [record for record in cells if record.status == "ok" and record.scores]
    shared = "; ".join(filter(None, map(_shared, cells)))
    minded: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for record in cells:
        if record.note:
            note = clip(" ".join(record.note.split()), naming.REASON_CHARS)
            minded[_mark(record), note][f"{task_name(record)} {record.model}"] = None
    return [
        f"acc % by {first}; {interval_words(map(is_sequential, scored))}." if first else "",
        f"Questions share contexts, and the interval is over contexts: {shared}." if shared else "",
        f"An indented row follows where another scorer differs: {others}." if others else "",
        naming.chances((task_name(record), record.chance) for record in cells),
        *(f"{mark} {', '.join(on)}: {note}." for (mark, note), on in minded.items()),
        *(f"{record.status}: {_name(record)}: {naming.reason(record)}" for record in cells if record.status != "ok"),
    ]


def _shared(record: Record) -> str:
    """'babilong:qa1 1K atlas 10 contexts, design effect 1.2' where questions share contexts."""
    found = score(record, record.headline) if record.headline in record.scores else {"contexts": None, "n": 0}
    if record.status != "ok" or not is_shared(found["contexts"], found["n"]):
        return ""
    effect = "" if found["design_effect"] is None else f", design effect {found['design_effect']:.1f}"
    return f"{_name(record)} {counted(found['contexts'], 'context')}{effect}"


def _name(record: Record) -> str:
    return f"{task_name(record)} {format_length(record.length)} {record.model}"
