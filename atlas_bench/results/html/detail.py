"""What a cell opens to: everything its records say but the answers, and the command that made it.

    cell_parts(cell, common={"versions"})      # [Part(head="seed 0", facts={"Cost": "seconds 4.47 · ..."}, ...)]

A fact that all records of a panel share is told once for the panel (`shared`), not in every cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atlas_bench.results.panels import Cell
from atlas_bench.results.record import Record
from atlas_bench.results.summary import Summary
from atlas_bench.units import format_bytes

GROUPS = {  # heading -> fields of a record, in the words of docs/record.md
    "Mind": ("note", "rescored"),
    "Cost": ("seconds", "tokens_per_second", "tokens_read", "state_bytes", "peak_rss_bytes", "usage"),
    "Model": (
        "parameters",
        "training_tokens",
        "training",
        "memory",
        "chunk_size",
        "weights_hash",
        "model_spec",
        "chat_template",
    ),
    "Ran": ("device", "products", "kernel", "kernel_why", "block", "batch", "resumed", "endpoint"),
    "Asked": ("seed", "samples", "options", "protocol", "task_version", "schema"),
    "Contexts": ("plan_hash", "data_hash", "prompt_hash", "corpus_key", "tokenizer_key"),
    "Made": ("started", "ended", "hardware", "versions"),
    "Metrics": ("metrics", "curve"),
    "Other": ("extra",),
}
SHARED = ("Asked", "Contexts", "Made", "Model", "Ran")  # groups whose facts a panel may tell once


@dataclass(frozen=True)
class Part:
    """One record of a cell.

    head      "seed 0, ok"
    reason    why it has no score
    scores    what each scorer counts, chance and contexts
    facts     heading -> "name value · name value"
    """

    head: str
    reason: str
    scores: str
    facts: dict[str, str]
    command: str


def cell_parts(cell: Cell, *, common: frozenset[str] = frozenset()) -> list[Part]:
    """The records of a cell, those with a score first; `common` names the fields that are told elsewhere."""
    return [_part(each, common) for each in cell.all]


def shared(cells: Iterable[Cell]) -> frozenset[str]:
    """The fields that are equal in all of the records of several cells; none where there is one record."""
    records = [each.record for cell in cells for each in cell.all]
    fields = [name for group in SHARED for name in GROUPS[group]]
    if len(records) < 2:
        return frozenset()
    return frozenset(name for name in fields if all(getattr(r, name) == getattr(records[0], name) for r in records))


def facts(
    record: Record, fields: Iterable[str] | None = None, *, without: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Heading -> what the record says; what was not measured is left out."""
    chosen = None if fields is None else set(fields)
    told = {}
    for heading, names in GROUPS.items():
        named = [name for name in names if name not in without and (chosen is None or name in chosen)]
        said = [
            f"{name.replace('_', ' ')} {_value(name, value)}"
            for name in named
            if _is_told(value := getattr(record, name))
        ]
        if said:
            told[heading] = " · ".join(said)
    return told


def percent(correct: float, n: int, interval: tuple[float, float]) -> str:
    """'99.0 % (96.4-99.7)', the 95 % interval in brackets; '' without an answer."""
    low, high = interval
    return f"{100 * correct / n:.1f} % ({100 * low:.1f}-{100 * high:.1f})" if n else ""


def _part(each: Summary, common: frozenset[str]) -> Part:
    record = each.record
    return Part(
        f"seed {record.seed}: {record.status}",
        record.reason,
        _scores(each),
        facts(record, without=common),
        record.command,
    )


def _scores(each: Summary) -> str:
    """'babilong/official version 1: 99/100 right, 99.0 % (94.6-99.8) · chance 16.7 % · 100 contexts'."""
    record, texts = each.record, []
    for name in record.scores:
        found = each.score(name)
        texts.append(f"{name} version {found['version'] or 'unknown'}: {found['correct']}/{found['n']} right")
        if found["n"]:
            texts[-1] += f", {percent(found['correct'], found['n'], (found['low'], found['high']))}"
    if texts and record.chance is not None:
        texts.append(f"chance {100 * record.chance:.1f} %")
    if texts and each.contexts:
        texts.append(f"{each.contexts} contexts")
        effect = each.score(record.headline).get("design_effect") if record.headline in record.scores else None
        texts += [] if effect is None else [f"design effect {effect:.1f}"]
    return " · ".join(texts)


def _is_told(value: Any) -> bool:
    return value is not None and value != {} and value != [] and value != "" and value is not False


def _value(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(str(key), item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return "; ".join(_value("", item) for item in value)
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value} ({format_bytes(value)})"
    return str(value)
