"""The texts of a comparison that terminal and page share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import stdev
from typing import Any

from atlas_bench.results.naming import metrics_text, reason, task_name
from atlas_bench.results.score import is_shared
from atlas_bench.running.tags import tag_text, tags
from atlas_bench.units import counted, format_length

LEVEL = 0.05  # of the corrected p below which two are told apart
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
LISTED = 5  # scores of seeds that are listed one by one
STOPS = {"width": "the interval was narrow enough", "verdict": "the verdict was decided"}
RELIES = (
    "A row shows what the trained model relies on; one that was trained without that part might do better or worse."
)

Row = Mapping[str, Any]


def p_text(p: float) -> str:
    """'0.021'; '<.001' for what is smaller."""
    return f"{p:.3f}" if p >= 0.001 else "<.001"


def cells(comparison: Row) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """('babilong:qa1', '16K, seeds 1 (chance 16.7 %)', its rows) of each cell, in order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row, tag in zip(comparison["rows"], tags(comparison["rows"], ("task", "subset"), ("seeds",)), strict=True):
        found[task_name(row), ", ".join(filter(None, (format_length(row["length"]), tag_text(tag))))].append(row)
    return [(task, at + _chance(rows), rows) for (task, at), rows in found.items()]


def legend(comparison: Row) -> list[str]:
    """Sentences on what the numbers are, and how p was computed."""
    rows = comparison["rows"]
    scorers = dict.fromkeys(f"{row['scorer']} version {row['scorer_version']}" for row in rows if row["n"])
    first = (
        f"Baseline: {comparison['baseline']}. diff: points of accuracy, with a 95 % paired bootstrap interval. "
        f"p: exact McNemar, Holm-corrected over {counted(comparison['comparisons'], 'comparison')}; "
        f"below {LEVEL} a verdict."
    )
    if any(is_shared(row["contexts"], row["n"]) for row in rows):
        first += f" {SHARED}"
    more = [OVER_SEEDS] if any(row["trainings"] > 1 for row in rows) else []
    more += [ANYTIME] if any(row["stopping"] for row in rows) else []
    scored = [f"acc %, with a 95 % Wilson interval, by {', '.join(scorers)}."] if scorers else []
    return [first, *more, *scored, *filter(None, [comparison.get("training")])]


def too_few(rows: Iterable[Row]) -> str:
    """A sentence where a cell has too few contexts for any difference to be significant; else empty.

    rows  of one cell, as paired.compare() or changes.changes() return them
    """
    tested = [row for row in rows if row["versus"] and "contexts_needed" in row["versus"]]
    if not tested or any(row["versus"]["contexts_needed"] is None for row in tested):
        return ""
    row = max(tested, key=lambda row: row["versus"]["contexts_needed"])
    versus, seeds = row["versus"], len(row.get("seeds") or [0])
    samples = math.ceil(versus["contexts_needed"] / seeds) * versus["questions_per_context"]
    return (
        f"Only {counted(versus['contexts'], 'context')}: no difference could reach p < {LEVEL}, Holm-corrected. "
        f"Ask for --samples {samples} or more."
    )


def why(row: Row) -> str:
    """The text in place of a score or a difference; empty where there are both."""
    note = (row["versus"] or {}).get("note", "")
    if row["status"] != "ok":
        return ". ".join(filter(None, (note if "->" in note else "", reason(row))))
    return metrics_text(row["metrics"]) if row["accuracy"] is None else note


def cell_remarks(row: Row) -> list[str]:
    """What stands below a score: the score of each seed, and the sample at which asking stopped."""
    texts = []
    if row["accuracy"] is not None and row["trainings"] > 1:
        scores = [100 * accuracy for accuracy in row["by_seed"]]
        shown = ", ".join(f"{score:.1f}" for score in scores)
        if len(scores) > LISTED:
            shown = f"{min(scores):.1f}..{max(scores):.1f}"
        texts.append(f"{counted(len(scores), 'seed')}: {shown}; sd {stdev(scores):.1f}")
    if row["accuracy"] is not None and isinstance(row["stopping"], dict) and row["n"] < row["samples"]:
        rule = STOPS.get(str(row["stopping"].get("rule")), "the answers sufficed")
        texts.append(f"asked {row['n']:,} of {row['samples']:,}: {rule}")
    return texts


def rate_lines(comparison: Row) -> list[str]:
    """'titans on mqar: x0.33 2.301, x1 1.104 (chosen), x3 failed' for each candidate and task whose rate was chosen."""
    return [f"{each['candidate']} on {each['task']}: {_tried(each)}" for each in comparison.get("rates", ())]


def _tried(each: Row) -> str:
    """The loss of each rate, and what to type if the best rate is the smallest or the largest."""
    advice = f"; --rates {each['beyond']} tries rates beyond it" if each.get("beyond") else ""
    return ", ".join(
        f"x{rate['factor']:.3g} {'failed' if rate['loss'] is None else format(rate['loss'], '.3f')}"
        + " (chosen)" * (rate["factor"] == each["chosen"])
        for rate in each["tried"]
    ) + advice  # fmt: skip


def _chance(rows: Sequence[Row]) -> str:
    chance = next((row["chance"] for row in rows if row["chance"] is not None), None)
    return "" if chance is None else f" (chance {100 * chance:.1f} %)"
