"""Comparisons and changes as self-contained HTML: readable without JavaScript, on paper and on a phone.

    html = comparison_html(compare(records, ["gated-deltanet", "atlas"]))
    html = changes_html(changes(["before/"], ["results/"]))
    Path("page.html").write_text(html, encoding="utf-8")

A difference is drawn with its interval; only one that is told apart has a colour, and its word and mark beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_bench.results import page, pair_labels
from atlas_bench.results.changes import Changes
from atlas_bench.results.compare import Comparison
from atlas_bench.results.labels import p_text
from atlas_bench.results.pair_labels import cells, legend, too_few, why
from atlas_bench.results.score import is_shared

MARKS = {"better": "▲", "worse": "▼"}
_REACHES = (1, 2, 5, 10, 20, 50, 100)  # points at the ends of a drawing
_WIDTH, _MARGIN = 160, 6  # of a drawing, in its own units


def comparison_html(comparison: Comparison) -> str:
    """The comparison as one HTML page: a table per subset with a group of rows per cell, then the costs.

    comparison  of `compare.compare`; names, reasons and warnings in it may be anything
    """
    tables: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {}
    for task, at, rows in cells(comparison):
        tables.setdefault(task, []).append((at, rows))
    return page.render(
        "compare.html.j2",
        baseline=comparison["baseline"],
        legend=legend(comparison),
        tally=_tally(comparison),
        tables=[_table(task, groups) for task, groups in tables.items()],
        costs=comparison["costs"],
        warnings=comparison["warnings"],
    )


def changes_html(found: Changes) -> str:
    """What changed as one HTML page: a table per verdict, the most important first; identical cells are counted.

    found  of `changes.changes`
    """
    missing = {which: pair_labels.lengths_of(found[f"only_{which}"]) for which in ("old", "new")}
    return page.render(
        "changes.html.j2",
        old=", ".join(found["old"]["paths"]),
        new=", ".join(found["new"]["paths"]),
        summary=[_arrows(said) for said in pair_labels.summary(found)],
        legend=pair_labels.changes_legend(found),
        sections=[_section(verdict, rows) for verdict, rows in pair_labels.by_verdict(found["rows"]).items()],
        missing=[(which, said, len(found[f"only_{which}"])) for which, said in missing.items() if said],
    )


def _tally(comparison: Comparison) -> list[tuple[str, str]]:
    """(candidate, 'worse in 5 cells, not separable in 5') of each but the baseline."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in comparison["contenders"][1:]}
    for row in comparison["rows"]:
        if row["versus"] and row["model"] in counts:
            counts[row["model"]][row["versus"].get("verdict", "not compared")] += 1
    order = ("worse", "better", "not separable", "not compared")
    return [
        (name, ", ".join(f"{verdict} in {count[verdict]}" for verdict in order if count[verdict]))
        for name, count in counts.items()
    ]


def _table(task: str, groups: Sequence[tuple[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """One subset: all its drawings have one scale."""
    reach = _reach(row["versus"] for _, rows in groups for row in rows)
    return {
        "task": task,
        "axis": _axis(reach),
        "groups": [(at, [_candidate(row, reach) for row in rows], too_few(rows)) for at, rows in groups],
    }


def _candidate(row: Mapping[str, Any], reach: int) -> dict[str, Any]:
    found = {"name": row["model"], "score": _score(row), "status": row["status"], "said": _arrows(why(row))}
    found |= _test(row["versus"] or {}, reach)
    return found if row["versus"] or not found["score"] else found | {"verdict": "baseline"}


def _section(verdict: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The changes of one verdict: all its drawings have one scale, and there are none where nothing was tested."""
    reach = _reach(row["versus"] for row in rows)
    return {
        "verdict": verdict,
        "mark": MARKS.get(verdict, ""),
        "says": pair_labels.VERDICTS[verdict],
        "axis": _axis(reach) if any(row["versus"] for row in rows) else None,
        "rows": [_change(row, reach) for row in rows],
    }


def _change(row: Mapping[str, Any], reach: int) -> dict[str, Any]:
    sides = {which: {"score": _score(row[which]), "status": row[which]["status"]} for which in ("old", "new")}
    return (
        sides
        | {"name": pair_labels.cell_name(row), "remarks": _arrows("; ".join(pair_labels.remarks(row)))}
        | _test(row["versus"] or {}, reach)
    )


def _score(side: Mapping[str, Any]) -> dict[str, str] | None:
    if side["accuracy"] is None:
        return None
    return {
        "percent": f"{100 * side['accuracy']:.1f}",
        "interval": f"{100 * side['low']:.1f}–{100 * side['high']:.1f}",
        "n": f"n={side['n']}",
        "shared": _contexts(side) if is_shared(side["contexts"], side["n"]) else "",
    }


def _contexts(side: Mapping[str, Any]) -> str:
    effect = side["design_effect"]
    return f"{side['contexts']} contexts" + ("" if effect is None else f", design effect {effect:.1f}")


def _test(versus: Mapping[str, Any], reach: int) -> dict[str, Any]:
    """The paired difference in words, and where to draw it; empty where there is none."""
    if "p_holm" not in versus:
        return {"bar": None, "p": "", "verdict": "", "mark": ""}
    mean, low, high = (100 * versus[part] for part in ("difference", "low", "high"))
    places = {name: _place(value, reach) for name, value in (("at", mean), ("low", low), ("high", high))}
    interval = _minus(f"{low:+.1f} to {high:+.1f}")
    return {
        "bar": places | {"points": _minus(f"{mean:+.1f}"), "interval": interval},
        "p": p_text(versus["p_holm"]),
        "verdict": versus["verdict"],
        "mark": MARKS.get(versus["verdict"], ""),
    }


def _axis(reach: int) -> dict[str, Any]:
    return {"reach": reach, "low": _place(-reach, reach), "zero": _place(0, reach), "high": _place(reach, reach)}


def _reach(found: Iterable[Mapping[str, Any] | None]) -> int:
    """Points at both ends of a drawing in which all these intervals have room."""
    most = max((100 * abs(each[end]) for each in found if each and "p" in each for end in ("low", "high")), default=0)
    return next((reach for reach in _REACHES if most <= reach), _REACHES[-1])


def _place(points: float, reach: int) -> float:
    half = _WIDTH / 2 - _MARGIN
    return round(_WIDTH / 2 + half * max(-1.0, min(1.0, points / reach)), 1)


def _arrows(text: str) -> str:
    return text.replace(" -> ", " → ")


def _minus(text: str) -> str:
    return text.replace("-", "−")
