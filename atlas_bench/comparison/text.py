"""Comparisons, probes and changes as text of 80 columns. No colour, no rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from atlas_bench.comparison import change_labels, labels
from atlas_bench.errors import printable
from atlas_bench.results.formats.text import WIDTH, table, wrapped
from atlas_bench.results.record import clip
from atlas_bench.results.score import columns
from atlas_bench.units import format_bytes, format_count, format_length

_PAIRED = ("", "acc %", "n", "95 % int.", "diff", "95 % int.", "p", "verdict")
_CHANGED = ("old %", "n", "95 % int.", "new %", "n", "95 % int.", "diff", "95 % int.", "p")
_COSTS = ("costs", "task", "at", "params", "state", "trained on", "tok/s")


def compare_lines(comparison: Mapping[str, Any]) -> list[str]:
    """A comparison: scores cell by cell, then costs, learning rates and warnings."""
    out = _sentences(labels.legend(comparison))
    for task, at, rows in labels.cells(comparison):
        out += ["", *wrapped(f"{task}, {at}"), *_cell(rows, {row["model"]: row["model"] for row in rows})]
    costs = [[printable(cell, True) for cell in _cost(cost)] for cost in comparison["costs"]]
    out += ["", *table(_COSTS, costs, left=(0, 1), width=WIDTH - 1)]  # the speed is the machine's, too
    if rates := labels.rate_lines(comparison):
        out += ["", *wrapped("learning rates, as factors on the recipe's, with the loss on held-out lessons")]
        out += [line for text in rates for line in wrapped(text, "    ")]
    return out + [line for warning in comparison["warnings"] for line in wrapped(f"unequal: {warning}", "    ")]


def probe_lines(probe: Mapping[str, Any]) -> list[str]:
    """A probe: a row for the whole model and one for each alteration, then what each alteration does."""
    baseline, out = probe["baseline"], []
    for task, at, rows in labels.cells(probe):
        names = {row["model"]: row["model"].removeprefix(f"{baseline};") for row in rows}  # 'momentum=off'
        out += [*wrapped(f"{task}, {at}"), *_cell(rows, names, baseline="whole model"), ""]
    out += [*_sentences([*labels.legend(probe), labels.RELIES, *probe["notes"]]), ""]
    width = max(map(len, probe["alterations"]), default=0)
    for name, effect in probe["alterations"].items():
        out += wrapped(effect, " " * (width + 1), f"{name:<{width}} ")
    return out


def changes_lines(found: Mapping[str, Any]) -> list[str]:
    """What changed: the cells that are worse, then better, ..; identical cells are counted."""
    old, new = (", ".join(found[which]["paths"]) for which in ("old", "new"))
    head = f"What changed: {old} -> {new}"
    out = _sentences([head, *change_labels.summary(found), *change_labels.legend(found)])
    for verdict, rows in change_labels.by_verdict(found["rows"]).items():
        heads, *numbers = table(_CHANGED, [_change(row) for row in rows], left=())
        out += ["", f"{verdict} ({len(rows)}): {change_labels.VERDICTS[verdict]}", heads]
        for row, line in zip(rows, numbers, strict=True):
            out += [*wrapped(change_labels.cell_name(row)), *filter(None, [line])]
            out += wrapped("; ".join(change_labels.remarks(row)), "    ", "    ")
    for which in ("old", "new"):
        missing = found[f"only_{which}"]
        out += ["", f"only in the {which} set ({len(missing)})"] if missing else []
        out += [line for text in change_labels.lengths_of(missing) for line in wrapped(text, "    ")]
    return out


def _cell(rows: Sequence[dict[str, Any]], names: Mapping[str, str], *, baseline: str = "baseline") -> Iterator[str]:
    """One cell's table, then why rows have no score or no difference."""
    shown = [[printable(names[row["model"]], True), *columns(row), *_paired(row, baseline)] for row in rows]
    yield from table(_PAIRED, shown, left=(0, 7), width=WIDTH - 1)
    for row in rows:
        if text := labels.why(row):
            status = "" if row["status"] == "ok" else f"{row['status']}: "
            yield from wrapped(clip(f"{names[row['model']]}: {status}{text}", 2000), "    ")
        for remark in labels.cell_remarks(row):
            yield from wrapped(f"{names[row['model']]}: {remark}", "    ")
    yield from wrapped(labels.too_few(rows))


def _difference(versus: Mapping[str, Any]) -> list[str]:
    points = [100 * versus[part] for part in ("difference", "low", "high")]
    return [f"{points[0]:+.1f}", f"{points[1]:+.1f}..{points[2]:+.1f}", labels.p_text(versus["p_holm"])]


def _paired(row: Mapping[str, Any], baseline: str) -> list[str]:
    versus = row["versus"]
    if versus and "p_holm" in versus:
        return [*_difference(versus), versus["verdict"]]
    if row["accuracy"] is None:
        return ["", "", "", row["status"] if row["status"] != "ok" else ""]
    return ["", "", "", "" if versus else baseline]


def _change(row: Mapping[str, Any]) -> list[str]:
    difference = _difference(row["versus"]) if row["versus"] else ["", "", ""]
    return [*columns(row["old"]), *columns(row["new"]), *difference]


def _cost(cost: Mapping[str, Any]) -> list[str]:
    number = {key: "" if value is None else f"{value:,}" for key, value in cost.items() if isinstance(value, int)}
    state = "" if cost["state_bytes"] is None else format_bytes(cost["state_bytes"]).replace(" ", "")
    speed = "" if cost["tokens_per_second"] is None else format_count(cost["tokens_per_second"])
    parameters, tokens = (number.get(name, "") for name in ("parameters", "training_tokens"))
    return [cost["model"], cost["task"], format_length(cost["length"]), parameters, state, tokens, speed]


def _sentences(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in wrapped(clip(text, 2000))]
