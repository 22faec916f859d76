"""Records as a plain table for a terminal, or as JSON. No colour, no rank: separability comes first."""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from atlas_bench.results import board, curves
from atlas_bench.results.digest import digests
from atlas_bench.results.record import Record, clip
from atlas_bench.results.score import is_shared, score
from atlas_bench.results.store import latest
from atlas_bench.units import format_bytes, format_count, format_length

if TYPE_CHECKING:
    from rich.console import Console

_HEAD = ("task", "length", "model", "acc %", "n", "95 % int.", "tok/s", "state", "peak RSS")
_WORDS = (0, 2)  # columns of words, which stand left; numbers stand right
_REASON_CHARS = 400
NOTED = "#"  # behind the task of a cell with a note


def render(records: Iterable[Record], console: Console) -> None:
    """Print one row per cell, then scorers, chance and the reason of every cell without a score.

    records  in any order; of several for one cell the latest counts
    console  80 columns are enough; what is no terminal gets ASCII only
    """
    cells = _ordered(records)
    ascii_only = not console.is_terminal or console.options.ascii_only
    if not cells:
        console.print("No records.", highlight=False)
        return
    lines = list(_table(cells, console.width, ascii_only))
    for grid in curves.grids(board.make(digests(cells))):
        lines += ["", *(printable(line, ascii_only) for line in curves.lines(grid))]
    for note in _notes(cells):
        lines += textwrap.wrap(printable(note, ascii_only), max(20, console.width - 1), subsequent_indent="    ") or [
            ""
        ]
    for line in lines:
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def as_json(records: Iterable[Record]) -> str:
    """The same cells as an indented JSON list: every scorer with correct, n, accuracy and interval."""
    return json.dumps([_cell(record) for record in _ordered(records)], indent=2)


def _cell(record: Record) -> dict[str, Any]:
    named = ("task", "subset", "length", "model", "seed", "options", "status", "reason", "headline", "chance")
    weighed = ("tokens_per_second", "state_bytes", "peak_rss_bytes", "parameters", "training_tokens")
    return {
        **{name: getattr(record, name) for name in named},
        "scores": {name: score(record, name) for name in record.scores},
        "metrics": record.metrics,
        "curve": record.curve,
        **{name: getattr(record, name) for name in weighed},
    }


def _ordered(records: Iterable[Record]) -> list[Record]:
    """By task, subset and length; models stay in the order they came in."""
    return sorted(latest(records), key=lambda record: (record.task, record.subset, record.length))


def _table(cells: Sequence[Record], width: int, ascii_only: bool) -> Iterator[str]:
    """The rows under their heads; a name that is too long for its column stands once above its rows."""
    rows = [row for record, tag in zip(cells, _tags(cells), strict=True) for row in _rows(record, tag)]
    rows = [[printable(cell, ascii_only) for cell in row] for row in rows]
    sizes = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    room = width - sum(size + 1 for i, size in enumerate(sizes) if i not in _WORDS) - 1
    task, model = (sizes[i] for i in _WORDS)
    sizes[0] = min(task, max(room - model, room // 2))
    sizes[2] = max(min(model, room - sizes[0]), len("model"))
    yield _line(_HEAD, sizes)
    yield "-" * (sum(sizes) + len(sizes) - 1)
    above = ""
    for row in rows:
        long = [i for i in _WORDS if len(row[i]) > sizes[i]]
        names = " ".join(row[i] for i in long)
        if names != above:
            yield from textwrap.wrap(names, width - 1)
        above = names if row[0] else above  # a further scorer's row belongs to the one before
        yield _line(["" if i in long else cell for i, cell in enumerate(row)], sizes)


def _line(row: Sequence[str], sizes: Sequence[int]) -> str:
    placed = zip(row, sizes, strict=True)
    return " ".join(f"{cell:<{n}}" if i in _WORDS else f"{cell:>{n}}" for i, (cell, n) in enumerate(placed)).rstrip()


def _rows(record: Record, tag: str) -> list[list[str]]:
    """The cell's row, and one more for each further scorer that counts otherwise."""
    head = record.headline or next(iter(record.scores), "")
    task = f"{_task(record)} {NOTED}" if record.note else _task(record)
    names = [task, format_length(record.length), f"{record.model} {tag}".strip()]
    costs = [_rate(record.tokens_per_second), _size(record.state_bytes), _size(record.peak_rss_bytes)]
    if record.status != "ok" or head not in record.scores:
        return [[*names, "", "", record.status, *costs]]
    others = [name for name in record.scores if name != head and record.scores[name] != record.scores[head]]
    rows = [["", "", f"  {_short(name)}", *_accuracy(record, name), "", "", ""] for name in others]
    return [[*names, *_accuracy(record, head), *costs], *rows]


def _accuracy(record: Record, scorer: str) -> list[str]:
    found = score(record, scorer)
    if not found["n"]:
        return ["", "0", ""]
    interval = f"{100 * found['low']:.1f}-{100 * found['high']:.1f}"
    return [f"{100 * found['accuracy']:.1f}", str(found["n"]), interval]


def _tags(cells: Sequence[Record]) -> list[str]:
    """What tells apart cells of one task, length and model: 'seed=1', 'prompt=official'."""
    twins: dict[tuple[str, int, str], list[dict[str, str]]] = defaultdict(list)
    for r in cells:
        facts = {"seed": r.seed, "samples": r.samples, "weights": (r.weights_hash or "-")[:8], **r.options}
        facts["task version"] = r.task_version
        twins[_task(r), r.length, r.model].append({name: str(value) for name, value in facts.items()})
    tags = []
    for r in cells:
        group = twins[_task(r), r.length, r.model]
        own, group[:] = group[0], [*group[1:], group[0]]  # cells come in the order they were collected
        differing = [name for name in own if len({facts.get(name) for facts in group}) > 1]
        tags.append(" ".join(f"{name}={own[name]}" for name in differing))
    return tags


def _notes(cells: Sequence[Record]) -> list[str]:
    """Scorers with their version, chance by subset, and why a cell has no score."""
    roles: dict[str, dict[str, None]] = {"acc %": {}, "other": {}}
    chance: dict[str, dict[str, None]] = defaultdict(dict)
    for record in cells:
        head = record.headline or next(iter(record.scores), "")
        for name in record.scores:
            role = "acc %" if name == head else "other"
            roles[role][f"{name} version {record.scorer_version.get(name, 'unknown')}"] = None
        if record.chance is not None:
            chance[f"{100 * record.chance:.1f} %"][_task(record)] = None
    notes = [""]
    if roles["acc %"]:
        notes.append(f"acc % by {', '.join(roles['acc %'])}; 95 % Wilson interval.")
    notes += _shared(cells)
    if roles["other"]:
        notes.append(f"An indented row follows where another scorer differs: {', '.join(roles['other'])}.")
    if chance:
        notes.append("Chance: " + "; ".join(f"{level} ({', '.join(on)})" for level, on in chance.items()) + ".")
    told: dict[str, dict[str, None]] = defaultdict(dict)
    for r in cells:
        if r.note:
            told[clip(" ".join(r.note.split()), _REASON_CHARS)][f"{_task(r)} {r.model}"] = None
    notes += [f"{NOTED} {', '.join(on)}: {note}." for note, on in told.items()]
    for r in cells:
        if r.status != "ok":
            reason = clip(" ".join(r.reason.split()) or "no reason recorded", _REASON_CHARS)
            notes.append(f"{r.status}: {_task(r)} {format_length(r.length)} {r.model}: {reason}")
    return notes


def _shared(cells: Sequence[Record]) -> Iterator[str]:
    """A sentence where questions share contexts, with the design effect of each such cell."""
    found = [(r, score(r, r.headline)) for r in cells if r.status == "ok" and r.headline in r.scores]
    told = [
        f"{_task(r)} {format_length(r.length)} {r.model} {each['contexts']} contexts"
        + ("" if each["design_effect"] is None else f", design effect {each['design_effect']:.1f}")
        for r, each in found
        if is_shared(each["contexts"], each["n"])
    ]
    if told:
        yield f"Questions share contexts, and the interval is over contexts: {'; '.join(told)}."


def _task(record: Record) -> str:
    return f"{record.task}:{record.subset}" if record.subset else record.task


def _short(scorer: str) -> str:
    """'babilong/word' -> '/word': the row above says the task."""
    return "/" + scorer.rsplit("/", 1)[-1]


def _size(count: int | None) -> str:
    return "" if count is None else format_bytes(count).replace(" ", "")


def _rate(speed: float | None) -> str:
    return "" if speed is None else format_count(speed)


def printable(text: str, ascii_only: bool) -> str:
    """Printable text: a model's name or message may hold escape codes that would steer the terminal."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text.encode("ascii", "backslashreplace").decode() if ascii_only else text
