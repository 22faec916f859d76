"""All fields of a record but its answers as text, under a few headings.

facts(record)["Cost"]      # 'seconds 4.47 · tokens per second 8943.0 · ..'
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from atlas_bench.results.panels import Cell
from atlas_bench.results.record import FIELDS, Record
from atlas_bench.results.score import percent
from atlas_bench.results.summary import Summary
from atlas_bench.units import format_bytes

GROUPS = {  # heading -> fields of a record, in the words of docs/record.md
    "Mind": ("note", "rescored"),
    "Cost": ("seconds", "tokens_per_second", "tokens_read", "state_bytes", "peak_rss_bytes", "usage"),
    "Model": (
        "parameters", "training_tokens", "training", "memory", "chunk_size", "weights_hash", "model_spec",
        "chat_template",
    ),
    "Ran": ("device", "products", "kernel", "kernel_why", "block", "batch", "parallel", "resumed", "endpoint"),
    "Asked": ("seed", "samples", "options", "protocol", "task_version", "schema", "part"),
    "Contexts": ("plan_hash", "data_hash", "prompt_hash", "corpus_key", "tokenizer_key"),
    "Made": ("started", "ended", "hardware", "versions", "parts"),
    "Metrics": ("metrics", "curve"),
    "Other": ("extra",),
}  # fmt: skip
SHARED = [name for group in ("Asked", "Contexts", "Made", "Model", "Ran") for name in GROUPS[group]]


def facts(record: Record, *, only: Collection[str] = FIELDS, without: Collection[str] = ()) -> dict[str, str]:
    """Heading -> 'name value · name value' of the fields chosen, without those that were not measured."""
    texts: dict[str, str] = {}
    for heading, names in GROUPS.items():
        values = {name: getattr(record, name) for name in names if name in only and name not in without}
        shown = [
            f"{name.replace('_', ' ')} {_text(name, value)}" for name, value in values.items() if _is_measured(value)
        ]
        texts |= {heading: " · ".join(shown)} if shown else {}
    return texts


def common(cells: Iterable[Cell]) -> list[str]:
    """The fields that are equal in all records of the cells, if there are several: a page shows them once."""
    first, *others = [each.record for cell in cells for each in cell.all]
    return [name for name in SHARED if others and all(getattr(r, name) == getattr(first, name) for r in others)]


def scores(each: Summary) -> str:
    """'babilong/official version 1: 99/100 right, 99.0 % (94.6-99.8), n=100 on 10 contexts · chance 16.7 %'."""
    found = {name: each.score(name) for name in each.record.scores}
    texts = [
        f"{name} version {score['version'] or 'unknown'}: {score['correct']}/{score['n']} right, {percent(score)}"
        for name, score in found.items()
    ]
    if texts and each.record.chance is not None:
        texts.append(f"chance {100 * each.record.chance:.1f} %")
    effect = found.get(each.record.headline or "", {}).get("design_effect")
    return " · ".join(texts + ([] if effect is None else [f"design effect {effect:.1f}"]))


def _is_measured(value: Any) -> bool:
    return value is not None and value is not False and value not in ({}, [], "")


def _text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(str(key), item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return "; ".join(_text("", item) for item in value)
    return f"{value} ({format_bytes(value)})" if name.endswith("_bytes") and isinstance(value, int) else str(value)
