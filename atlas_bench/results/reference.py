"""Numbers that others published, with their sources; none of them was measured here.

    for row in of("babilong", "qa1"):       # may stand beside our records of babilong:qa1
        row.model, row.length, row.value    # 'ARMT 137M, fine-tuned', 10_000_000, 89.0
        SOURCES[row.source].citation        # 'BABILong leaderboard (RMT-team, Hugging Face space)'
    print(CAVEAT)                           # wherever a row is shown

The numbers are in reference.csv, whose column `notes` names entries of NOTES; sources, tables and notes are in
reference.toml.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from atlas_bench.units import format_length


class Published(NamedTuple):
    """One number that others published.

    model   as the source names it, with size and training where its table gives them
    table   key of TABLES
    subset  our subset's name where it is one ("qa1", "niah_single_1"), else the source's column ("qa1-5 mean", "SWDE")
    length  tokens as the source counts them; None where the number has none
    value   in the unit
    unit    "%" or "ppl" (perplexity)
    kind    "quoted", or "derived" by arithmetic on quoted numbers, or by scoring published answers
    source  key of SOURCES
    note    what to know before reading it
    """

    model: str
    table: str
    subset: str
    length: int | None
    value: float
    unit: str
    kind: str
    source: str
    note: str


class Source(NamedTuple):
    """Where numbers come from; the note says how we got them where we did not read the source itself."""

    citation: str
    url: str
    note: str = ""


class Table(NamedTuple):
    """A group of rows; by_length: whether its numbers form a column for each length."""

    title: str
    note: str
    by_length: bool


_HERE = Path(__file__).parent
_ABOUT = tomllib.loads((_HERE / "reference.toml").read_text(encoding="utf-8"))
CAVEAT: str = _ABOUT["caveat"]
SOURCES = {key: Source(**about) for key, about in _ABOUT["sources"].items()}
TABLES = {key: Table(**about) for key, about in _ABOUT["tables"].items()}
NOTES: dict[str, str] = _ABOUT["notes"]
MEAN_OF_13 = "mean of 13"  # a subset of "ruler": the score of its summary
_BESIDE = {"babilong": ("babilong",), "ruler": ("s-niah", "ruler-mean")}  # our task -> tables


def _read() -> tuple[Published, ...]:
    with open(_HERE / "reference.csv", encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                row["model"], row["table"], row["subset"], int(row["length"]) if row["length"] else None,
                float(row["value"]), "ppl" if row["subset"].endswith("ppl") else "%", row["kind"], row["source"],
                " ".join(NOTES[name] for name in row["notes"].split()),
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


ROWS = _read()


def of(task: str, subset: str) -> list[Published]:
    """The rows that may stand beside our task and subset, by model, source and length; most subsets have none.

    There are rows for "babilong", "qa1" to "qa5"; for "ruler", its needles and MEAN_OF_13. "niah_single_3" has the rows
    called W too, whose note says why they may not belong there.
    """
    names = {subset, "W"} if subset == "niah_single_3" else {subset}
    rows = [row for row in ROWS if row.table in _BESIDE.get(task, ()) and row.subset in names]
    return sorted(rows, key=lambda row: (row.model, row.source, row.kind, row.length or 0))


class Line(NamedTuple):
    """A line of a table: the numbers of one model by one source, either quoted or derived.

    values  column -> text; missing where the source has none
    """

    model: str
    source: str
    kind: str
    values: dict[Any, str]
    notes: tuple[str, ...]


def lines(rows: Iterable[Published], column: Callable[[Published], Any] = attrgetter("length")) -> list[Line]:
    """One line for each model, source and kind, the fullest first."""
    groups: dict[tuple[str, str, str], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.model, row.source, row.kind), []).append(row)
    found = [
        Line(
            *key, {column(row): f"{row.value:g}" for row in group},
            tuple(dict.fromkeys(row.note for row in group if row.note)),
        )
        for key, group in groups.items()
    ]  # fmt: skip
    return sorted(found, key=lambda line: -len(line.values))


class Beside(NamedTuple):
    """What others published for a task and subset, such as "babilong:qa1"."""

    name: str
    rows: list[Published]

    @property
    def lengths(self) -> list[int | None]:
        return sorted({row.length for row in self.rows}, key=lambda length: -1 if length is None else length)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(heads, rows) of model, source, kind, then one column for each length."""
        heads = ["" if length is None else format_length(length) for length in self.lengths]
        rows = [[*line[:3], *(line.values.get(length, "") for length in self.lengths)] for line in lines(self.rows)]
        return ["model", "source", "kind", *heads], rows


def beside(names: dict[str, tuple[str, str]]) -> list[Beside]:
    """What others published for some tasks and subsets, without those that have nothing.

    names  'babilong:qa1' -> ('babilong', 'qa1')
    """
    return [Beside(name, rows) for name, asked in names.items() if (rows := of(*asked))]


def sources(found: list[Beside]) -> dict[tuple[str, str], str]:
    """(source, kind) -> its citation, in the order of the rows."""
    texts = {}
    for key, kind in dict.fromkeys((row.source, row.kind) for each in found for row in each.rows):
        source = SOURCES[key]
        texts[key, kind] = " ".join(filter(None, (f"{source.citation}, {source.url}, {kind}.", source.note)))
    return texts


def notes(found: list[Beside]) -> list[str]:
    """The notes on published rows, each once, behind the lines that it is about."""
    about: dict[str, dict[str, None]] = {}
    for each in found:
        for row in each.rows:
            if row.note:
                about.setdefault(row.note, {})[f"{each.name} {row.model}"] = None
    return [f"{', '.join(lines)}: {note}" for note, lines in about.items()]
