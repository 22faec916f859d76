"""What others published, as reference rows with their source: none of it was measured here.

    for row in of("babilong", "qa1"):       # may stand beside our records of babilong:qa1
        row.model, row.length, row.value    # 'ARMT 137M, fine-tuned', 10_000_000, 89.0
        SOURCES[row.source].citation        # 'BABILong leaderboard (RMT-team, Hugging Face space)'
    print(CAVEAT)                           # wherever a row is shown

The numbers are in reference.csv; its column `notes` names entries of NOTES. A number that nobody printed has no row.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from atlas_bench.units import format_length

CAVEAT = (
    "Published rows are others' numbers, not measured here: their lengths, data, scorers, prompts and training"
    " differ from ours, so they are a reference beside the measured rows and never ranked with them."
)


@dataclass(frozen=True)
class Published:
    """One number that others published.

    model   as the source names it, with size and training where its table gives them
    table   key of TABLES
    subset  our subset's name where it is one ("qa1", "niah_single_1"), else the source's column ("qa1-5 mean", "SWDE")
    length  tokens as the source counts them; None where the number has none
    value   in the unit
    unit    "%" or "ppl" (perplexity)
    kind    "quoted", or "derived" by arithmetic on quoted numbers
    source  key of SOURCES
    note    what to know before reading it

    Two sources may tell of one model, and a derived number may correct a quoted one: model, source and kind
    together are one line of a table.
    """

    model: str
    table: str
    subset: str
    length: int | None
    value: float
    unit: str
    kind: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Source:
    """Where numbers come from; the note says how they reached us where that was not by reading the source."""

    citation: str
    url: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A group of rows; by_length where one number per length makes sense."""

    title: str
    note: str
    by_length: bool


SOURCES = {
    "titans": Source(
        "Behrouz, Zhong, Mirrokni 2024, Titans: Learning to Memorize at Test Time (tables 1, 2, 5)",
        "https://arxiv.org/abs/2501.00663",
    ),
    "atlas": Source(
        "Behrouz et al. 2025, ATLAS: Learning to Optimally Memorize the Context at Test Time (tables 2 to 6)",
        "https://arxiv.org/abs/2505.23735",
        "Second-hand: from notes of others on the paper, not from its text; a blank may be printed there.",
    ),
    "memory-caching": Source(
        "Behrouz et al. 2026, Memory Caching: RNNs with Growing Memory",
        "https://arxiv.org/abs/2602.24281",
        "A later paper of the Titans and ATLAS group with runs of its own; sizes are given only where a row names one.",
    ),
    "babilong-leaderboard": Source(
        "BABILong leaderboard (RMT-team, Hugging Face space)",
        "https://huggingface.co/spaces/RMT-team/babilong",
    ),
    "babilong": Source(
        "Kuratov et al. 2024, BABILong: Testing the Limits of LLMs with Long Context Reasoning-in-a-Haystack",
        "https://arxiv.org/abs/2406.10149",
        "Table 4 was garbled in conversion; its columns were put in place by comparing means of qa1 to qa5 with the"
        " leaderboard's, for models that have both.",
    ),
    "armt": Source(
        "Rodkin et al. 2024, Associative Recurrent Memory Transformer (abstract)",
        "https://arxiv.org/abs/2407.04841",
    ),
}

TABLES = {
    "babilong": Table(
        "BABILong, accuracy",
        "Fine-tuned models were trained on the task, the others were not. Titans' and ATLAS' accuracies by length stand"
        " only in figures and are blank here; ATLAS' abstract says '+80%' at 10M, not whether on qa1 or on the mean.",
        by_length=True,
    ),
    "s-niah": Table(
        "RULER, single needle (S-NIAH), accuracy",
        "Titans and ATLAS call the three PK (passkey), N (number) and W. The later paper, which names RULER's own"
        " three, measured Titans (LMM) far lower on the third than Titans' W.",
        by_length=True,
    ),
    "recall": Table(
        "In-context recall, accuracy",
        "avg is the mean of the six columns. Where a length stands, 16K is taken as 16,384 tokens.",
        by_length=False,
    ),
    "lm": Table(
        "Language modelling and common sense",
        "Perplexity on Wikitext (Wiki) and LAMBADA (LMB), lower is better; accuracies, normalised for HellaSwag and"
        " ARC-c. Avg is the mean of the eight accuracies. A star, as printed, marks a hybrid with attention; the 760M"
        " Titans were printed without one.",
        by_length=False,
    ),
    "ablation": Table(
        "Ablations of Titans and ATLAS",
        "The perplexity is the mean of those on Wikitext and LAMBADA, so it does not compare with either. ATLAS without"
        " Muon has the numbers of OmegaNet. Of Titans' Long Context (BABILong) neither lengths nor tasks are stated.",
        by_length=False,
    ),
    "mad": Table("MAD, synthetic tasks, accuracy", "avg is the mean of the five columns.", by_length=False),
}

NOTES = {
    "w": "Called W in the source, which need not be RULER's niah_single_3 (a uuid in essays).",
    "dot": "Its lowest cell; the others lie between 93.2 and 100.",
    "avg": "From 4K on the leaderboard's avg repeats its qa5: a copying mistake; the mean of qa1 to qa5 is 92.6 at 1M"
    " and 75.8 at 10M.",
    "qa5": "Rounded; the leaderboard's avg, which repeats the row, keeps the decimals.",
    "mean": "Mean of qa1 to qa5 in whole per cent.",
    "gemma": "Read from a garbled table, of medium confidence.",
    "siqa": "Printed so, and so in the row's Avg; looks like a typing mistake for 39.98.",
    "ttt": "Printed so; its columns average 49.37.",
    "mal": "From the ablation's perplexity, the mean of Wiki and LMB: 2 x 20.26 - 19.07, uncertain in the last digits.",
    "omega": "The same numbers as OmegaNet.",
}

_BESIDE = {"babilong": "babilong", "ruler": "s-niah"}  # our task -> table


def _read() -> tuple[Published, ...]:
    with open(Path(__file__).with_name("reference.csv"), encoding="utf-8", newline="") as file:
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
    """The rows that may stand beside our task and subset, by model, source and length; none for most.

    task, subset  "babilong" with "qa1" to "qa5"; "ruler" with "niah_single_1" to "niah_single_3", the last with the
                  rows called W, whose note says why they may not belong there
    """
    names = {subset, "W"} if subset == "niah_single_3" else {subset}
    rows = [row for row in ROWS if row.table == _BESIDE.get(task) and row.subset in names]
    return sorted(rows, key=lambda row: (row.model, row.source, row.kind, row.length or 0))


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

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(heads, rows) for readers: model, source, kind, then one column for each length."""
        heads = ["model", "source", "kind"]
        heads += ["" if length is None else format_length(length) for length in self.lengths]
        rows = [
            [*line, *(f"{cells[length].value:g}" if length in cells else "" for length in self.lengths)]
            for line, cells in self.lines.items()
        ]
        return heads, rows


def beside(names: dict[str, tuple[str, str]]) -> list[Beside]:
    """What others published for some tasks and subsets, once for each that has any.

    names  'babilong:qa1' -> ('babilong', 'qa1')
    """
    found = []
    for name, asked in names.items():
        lines: dict[tuple[str, str, str], dict[int | None, Published]] = {}
        for row in of(*asked):
            lines.setdefault((row.model, row.source, row.kind), {})[row.length] = row
        found += [Beside(name, lines)] if lines else []
    return found


def sources(found: list[Beside]) -> dict[tuple[str, str], str]:
    """(source, kind) -> its citation, in the order in which the rows name them."""
    texts = {}
    for key, kind in dict.fromkeys((row.source, row.kind) for each in found for row in each.rows):
        source = SOURCES[key]
        texts[key, kind] = " ".join(filter(None, (f"{source.citation}, {source.url}, {kind}.", source.note)))
    return texts


def notes(found: list[Beside]) -> list[str]:
    """The notes on published rows, each once, with the lines that it is about."""
    about: dict[str, dict[str, None]] = {}
    for each in found:
        for row in each.rows:
            if row.note:
                about.setdefault(row.note, {})[f"{each.name} {row.model}"] = None
    return [f"{', '.join(lines)}: {note}" for note, lines in about.items()]
