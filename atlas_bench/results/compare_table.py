"""A comparison as text of 80 columns. No colour, no rank: a verdict stands only where two are told apart."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from typing import Any

from atlas_bench.results.compare import LEVEL, Comparison
from atlas_bench.results.table import printable
from atlas_bench.units import format_bytes, format_length


def lines(comparison: Comparison) -> list[str]:
    """The comparison as text of 80 columns: scores cell by cell, then costs, then what to mind."""
    out = _legend(comparison)
    cells: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for row in comparison["rows"]:
        cells[row["task"], row["subset"], row["length"], row["seed"]].append(row)
    seeds = {seed for *_, seed in cells}
    for (task, subset, length, seed), rows in cells.items():
        chance = next((row["chance"] for row in rows if row["chance"] is not None), None)
        title = f"{_name(task, subset)}, {format_length(length)}" + (f", seed {seed}" if len(seeds) > 1 else "")
        out += ["", title + ("" if chance is None else f" (chance {100 * chance:.1f} %)")]
        out.append(_columns("", "acc %", "n", "95 % int.", "diff", "95 % int.", "p", "verdict"))
        for row in rows:
            out += _lines(row)
        units = min((row["contexts"] for row in rows if row["contexts"]), default=0)
        if units and 2.0 ** (1 - units) >= LEVEL:
            out += _wrapped(f"Only {units} contexts: no difference could reach p < {LEVEL}. Ask for more --samples.")
    return [*out, *_cost_lines(comparison)]


def _legend(comparison: Comparison) -> list[str]:
    said = (
        f"Baseline: {comparison['baseline']}. diff: points of accuracy, with a 95 % paired bootstrap interval. "
        f"p: exact McNemar, Holm-corrected over {comparison['comparisons']} comparisons; below {LEVEL} a verdict."
    )
    if any(row["contexts"] and row["contexts"] < row["n"] for row in comparison["rows"]):
        said += (
            " Several questions share a context: contexts are drawn, and their signs flipped (exact) for p;"
            " the interval of acc % takes questions as independent and is too narrow."
        )
    return _wrapped(said) + _wrapped(comparison.get("training") or "")


def _lines(row: dict[str, Any]) -> list[str]:
    name, versus = printable(row["model"], True), row["versus"] or {}
    long = [] if len(name) <= 15 else [name]
    name = "" if long else name
    if row["accuracy"] is None:
        change = f"{versus['note']}. " if "->" in versus.get("note", "") else ""
        reason = " ".join(row["reason"].split()) or "no reason recorded"
        return [*long, *_wrapped(f"{name:<15} {row['status']}: {change}{reason}", " " * 16)]
    score = (f"{100 * row['accuracy']:.1f}", str(row["n"]), f"{100 * row['low']:.1f}-{100 * row['high']:.1f}")
    if "p" not in versus:
        said = [] if not versus else _wrapped(versus["note"], " " * 16, " " * 16)
        return [*long, _columns(name, *score, *([] if versus else ["", "", "", "baseline"])), *said]
    points = [100 * versus[part] for part in ("difference", "low", "high")]
    p = f"{versus['p_holm']:.3f}" if versus["p_holm"] >= 0.001 else "<.001"
    interval = f"{points[1]:+.1f}..{points[2]:+.1f}"
    return [*long, _columns(name, *score, f"{points[0]:+.1f}", interval, p, versus["verdict"])]


def _cost_lines(comparison: Comparison) -> list[str]:
    out = ["", f"{'costs':<19} {'task':<10} {'at':>6} {'params':>11} {'state':>10} {'trained on':>11}"]
    out[-1] += f" {'tok/s':>6}"  # the machine's, not the contender's alone
    for cost in comparison["costs"]:
        name = printable(cost["model"], True)
        out += [name] if len(name) > 19 else []
        number = {key: "" if value is None else f"{value:,}" for key, value in cost.items() if isinstance(value, int)}
        state = "" if cost["state_bytes"] is None else format_bytes(cost["state_bytes"]).replace(" ", "")
        speed = "" if cost["tokens_per_second"] is None else f"{cost['tokens_per_second']:.0f}"
        out.append(
            f"{name if len(name) <= 19 else '':<19} {cost['task']:<10} {format_length(cost['length']):>6} "
            f"{number.get('parameters', ''):>11} {state:>10} {number.get('training_tokens', ''):>11} {speed:>6}"
        )
    for warning in comparison["warnings"]:
        out += _wrapped(f"unequal: {warning}", "    ")
    return out


def _columns(name: str, *cells: str) -> str:
    widths = (5, 4, 10, 6, 13, 5)
    numbers = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
    return f"{name:<15} {numbers}  {cells[-1] if len(cells) > len(widths) else ''}".rstrip()


def _wrapped(text: str, later: str = "", first: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text, True), 79, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )


def _name(task: str, subset: str) -> str:
    return f"{task}:{subset}" if subset else task
