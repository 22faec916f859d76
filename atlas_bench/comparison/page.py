"""Comparisons and changes as self-contained HTML: readable without JavaScript, on paper and on a phone.

    html = comparison_html(compare(records, ["gated-deltanet", "atlas"]))
    html = changes_html(changes(["before/"], ["results/"]))
    Path("page.html").write_text(html, encoding="utf-8")

Each difference is drawn with its interval; a significant one has a colour, a word and a mark. The templates draw; this
module computes what they need beside the comparison itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atlas_bench.comparison import change_labels, labels
from atlas_bench.comparison.changes import Changes
from atlas_bench.comparison.paired import Comparison
from atlas_bench.results.html.template import render
from atlas_bench.results.score import is_shared

TEMPLATES = Path(__file__).with_name("templates")
MARKS = {"better": "▲", "worse": "▼"}
_REACHES = (1, 2, 5, 10, 20, 50, 100)  # points at the ends of a drawing
_WIDTH, _MARGIN = 160, 6  # of a drawing, in its own units


def comparison_html(comparison: Comparison) -> str:
    """The comparison as one HTML page: a table per subset with a group of rows per cell, then the costs.

    comparison  of `paired.compare`; names, reasons and warnings in it may be anything
    """
    groups: dict[str, list[tuple[str, list[dict[str, Any]], str]]] = {}
    for task, at, rows in labels.cells(comparison):
        groups.setdefault(task, []).append((at, rows, labels.too_few(rows)))
    tables = [(task, reach(row["versus"] for _, rows, _ in own for row in rows), own) for task, own in groups.items()]
    return _render(
        "compare.html.j2",
        comparison=comparison,
        legend=labels.legend(comparison),
        tally=_tally(comparison),
        tables=tables,
        why=labels.why,
        remarks=labels.cell_remarks,
        rates=labels.rate_lines(comparison),
        by_seed=any(row["trainings"] > 1 for row in comparison["rows"]),
    )


def changes_html(found: Changes) -> str:
    """What changed as one HTML page: a table per verdict, the most important first; identical cells are counted.

    found  of `changes.changes`
    """
    sections = [
        (verdict, change_labels.VERDICTS[verdict], reach(row["versus"] for row in rows), rows)
        for verdict, rows in change_labels.by_verdict(found["rows"]).items()
    ]
    missing = {which: change_labels.lengths_of(found[f"only_{which}"]) for which in ("old", "new")}
    return _render(
        "changes.html.j2",
        old=", ".join(found["old"]["paths"]),
        new=", ".join(found["new"]["paths"]),
        summary=change_labels.summary(found),
        legend=change_labels.legend(found),
        sections=sections,
        missing=[(which, cells, len(found[f"only_{which}"])) for which, cells in missing.items() if cells],
        cell_name=change_labels.cell_name,
        remarks=change_labels.remarks,
    )


def _render(template: str, **context: Any) -> str:
    functions = {"place": place, "signed": signed, "p_text": labels.p_text, "is_shared": is_shared, "marks": MARKS}
    return render(template, folder=TEMPLATES, **functions, **context)


def _tally(comparison: Comparison) -> list[tuple[str, str]]:
    """(candidate, 'worse in 5 cells, not separable in 5') of each but the baseline."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in comparison["candidates"][1:]}
    for row in comparison["rows"]:
        if row["versus"] and row["model"] in counts:
            counts[row["model"]][row["versus"].get("verdict", "not compared")] += 1
    order = ("worse", "better", "not separable", "not compared")
    return [
        (name, ", ".join(f"{verdict} in {count[verdict]}" for verdict in order if count[verdict]))
        for name, count in counts.items()
    ]


def reach(found: Iterable[Mapping[str, Any] | None]) -> int:
    """The scale of a table's drawings: the points at their ends, so that all intervals fit."""
    most = max((100 * abs(each[end]) for each in found if each and "p" in each for end in ("low", "high")), default=0)
    return next((reach for reach in _REACHES if most <= reach), _REACHES[-1])


def place(share: float, reach: int) -> float:
    """The x position of a difference in -1..1 in a drawing."""
    half = _WIDTH / 2 - _MARGIN
    return round(_WIDTH / 2 + half * max(-1.0, min(1.0, 100 * share / reach)), 1)


def signed(share: float) -> str:
    """'−2.5' points."""
    return f"{100 * share:+.1f}".replace("-", "−")
