"""A comparison as text of 80 columns. No colour, no rank: a verdict stands only where two are told apart."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from atlas_bench.results.compare import LEVEL, Comparison, tags, task_name
from atlas_bench.results.record import clip
from atlas_bench.results.score import is_shared
from atlas_bench.results.table import printable
from atlas_bench.units import format_bytes, format_length

REASON_CHARS = 400
LISTED = 5  # scores of seeds that are listed one by one
STOPS = {"width": "the interval was narrow enough", "verdict": "the verdict was decided"}
SHARED = (
    "Several questions share a context: contexts are drawn, and their signs flipped (exact) for p; "
    "a score's own interval is over contexts too."
)
OVER_SEEDS = (
    "Each seed is a training of its own with its own questions. Intervals and p are over trainings (Student's t of the "
    "seeds' means), and no surer than those of all answers taken together."
)
ANYTIME = (
    "Asking stopped when the answers sufficed: the intervals (confidence sequences) and p (by betting) of what was "
    "stopped hold at any stop."
)


def lines(comparison: Comparison) -> list[str]:
    """The comparison as text of 80 columns: scores cell by cell, then costs, then what to mind."""
    out = [line for said in legend(comparison) for line in wrapped(said)]
    for task, at, rows in cells(comparison):
        out += ["", *wrapped(f"{task}, {at}")]
        out.append(_columns("", "acc %", "n", "95 % int.", "diff", "95 % int.", "p", "verdict"))
        for row in rows:
            out += _lines(row)
        out += wrapped(too_few(rows))
    return [*out, *_cost_lines(comparison)]


def cells(comparison: Comparison) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """('babilong:qa1', '16K, seeds 1 (chance 16.7 %)', its rows) of each cell, in order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row, tag in zip(comparison["rows"], tags(comparison["rows"], "seeds"), strict=True):
        found[task_name(row), ", ".join(filter(None, (format_length(row["length"]), tag)))].append(row)
    return [(task, at + _chance(rows), rows) for (task, at), rows in found.items()]


def legend(comparison: Comparison) -> list[str]:
    """Sentences that say what the numbers are and how p was made."""
    rows = comparison["rows"]
    scorers = dict.fromkeys(f"{row['scorer']} version {row['scorer_version']}" for row in rows if row["n"])
    said = [
        f"Baseline: {comparison['baseline']}. diff: points of accuracy, with a 95 % paired bootstrap interval. "
        f"p: exact McNemar, Holm-corrected over {comparison['comparisons']} comparisons; below {LEVEL} a verdict."
    ]
    if any(is_shared(row["contexts"], row["n"]) for row in rows):
        said[0] += f" {SHARED}"
    if any(row["trainings"] > 1 for row in rows):
        said.append(OVER_SEEDS)
    if any(row["stopping"] for row in rows):
        said.append(ANYTIME)
    if scorers:
        said.append(f"acc %, with a 95 % Wilson interval, by {', '.join(scorers)}.")
    return [*said, *filter(None, [comparison.get("training")])]


def too_few(rows: Sequence[dict[str, Any]]) -> str:
    """A sentence where a cell has so few contexts that no difference could be told; else empty."""
    units = min((row["contexts"] for row in rows if row["contexts"]), default=0)
    if not units or 2.0 ** (1 - units) < LEVEL:
        return ""
    return f"Only {units} contexts: no difference could reach p < {LEVEL}. Ask for more --samples."


def p_text(p: float) -> str:
    """'0.021'; '<.001' for what is smaller."""
    return f"{p:.3f}" if p >= 0.001 else "<.001"


def wrapped(text: str, later: str = "", first: str = "") -> list[str]:
    """The text in lines of 79 columns, in ASCII, with control characters as escapes."""
    shown = printable(" ".join(clip(text).split()), True)
    return textwrap.wrap(shown, 79, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def metrics_text(metrics: Mapping[str, float | None]) -> str:
    """'nats_per_token 3.412, next_token_accuracy 0.3'."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if value is not None)


def _chance(rows: Sequence[dict[str, Any]]) -> str:
    chance = next((row["chance"] for row in rows if row["chance"] is not None), None)
    return "" if chance is None else f" (chance {100 * chance:.1f} %)"


def _lines(row: dict[str, Any]) -> list[str]:
    name, versus = printable(row["model"], True), row["versus"] or {}
    long = [] if len(name) <= 15 else wrapped(name)
    name = "" if long else name
    if row["accuracy"] is None:
        change = f"{versus['note']}. " if "->" in versus.get("note", "") else ""
        said = metrics_text(row["metrics"]) if row["status"] == "ok" else f"{row['status']}: {change}{reason(row)}"
        return [*long, *wrapped(said, " " * 16, f"{name:<15} ")]
    score = (f"{100 * row['accuracy']:.1f}", str(row["n"]), f"{100 * row['low']:.1f}-{100 * row['high']:.1f}")
    more = [line for said in remarks(row) for line in wrapped(said, " " * 16, " " * 16)]
    if "p" not in versus:
        said = [] if not versus else wrapped(versus["note"], " " * 16, " " * 16)
        return [*long, _columns(name, *score, *([] if versus else ["", "", "", "baseline"])), *said, *more]
    points = [100 * versus[part] for part in ("difference", "low", "high")]
    interval = f"{points[1]:+.1f}..{points[2]:+.1f}"
    verdict = (f"{points[0]:+.1f}", interval, p_text(versus["p_holm"]), versus["verdict"])
    return [*long, _columns(name, *score, *verdict), *more]


def remarks(row: Mapping[str, Any]) -> list[str]:
    """What stands under a score: how it differs from seed to seed, and where asking stopped."""
    said = []
    if row["trainings"] > 1:
        scores = [100 * accuracy for accuracy in row["by_seed"]]
        shown = ", ".join(f"{score:.1f}" for score in scores)
        if len(scores) > LISTED:
            shown = f"{min(scores):.1f}..{max(scores):.1f}"
        said.append(f"{len(scores)} seeds: {shown}; sd {stdev(scores):.1f}")
    if isinstance(row["stopping"], dict) and row["n"] < row["samples"]:
        why = STOPS.get(str(row["stopping"].get("rule")), "the answers sufficed")
        said.append(f"asked {row['n']:,} of {row['samples']:,}: {why}")
    return said


def reason(row: Mapping[str, Any]) -> str:
    """Why a row has no score, in one line that is not long."""
    return clip(" ".join(row["reason"].split()) or "no reason recorded", REASON_CHARS)


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
    if rates := rate_lines(comparison):
        out += ["", *wrapped("learning rates, as factors on the recipe's, with the loss on held-out lessons")]
        out += [line for said in rates for line in wrapped(said, "    ")]
    for warning in comparison["warnings"]:
        out += wrapped(f"unequal: {warning}", "    ")
    return out


def rate_lines(comparison: Comparison) -> list[str]:
    """'titans on mqar: x0.33 2.301, x1 1.104 (chosen), x3 failed' for each contender and task whose rate was chosen."""
    return [
        f"{each['contender']} on {each['task']}: " + ", ".join(
            f"x{rate['factor']:.3g} {'failed' if rate['loss'] is None else format(rate['loss'], '.3f')}"
            + " (chosen)" * (rate["factor"] == each["chosen"])
            for rate in each["tried"]
        )
        for each in comparison.get("rates", ())
    ]  # fmt: skip


def _columns(name: str, *cells: str) -> str:
    widths = (5, 4, 10, 6, 13, 5)
    numbers = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
    return f"{name:<15} {numbers}  {cells[-1] if len(cells) > len(widths) else ''}".rstrip()
