"""The texts of what changed that terminal and page share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from atlas_bench.comparison.labels import ANYTIME, LEVEL, SHARED, Row, too_few
from atlas_bench.results.naming import chances, natural, reason, task_name
from atlas_bench.results.record import clip
from atlas_bench.results.score import is_shared
from atlas_bench.units import counted, format_length

COSTS = {"tokens_per_second": "tok/s", "peak_rss_bytes": "peak RSS", "state_bytes": "state"}
VERDICTS = {  # of changes, the most important first
    "worse": "fewer right answers, told apart",
    "better": "more right answers, told apart",
    "not comparable": "asked or judged otherwise: no difference is taken",
    "other status": "a score on one side only, or another reason for none",
    "not separable": "no difference that is told apart",
    "no score": "metrics alone, or a score on neither side",
}
_ANSWERS = {
    "right_to_wrong": "right -> wrong",
    "wrong_to_right": "wrong -> right",
    "other_text": "other text, judged as before",
}
_NAME_CHARS = 100
_SAME = ("task", "subset", "length", "model", "seed", "options")  # a cell's name but for the number of questions


def summary(found: Row) -> list[str]:
    """Sentences on how many cells are worse, better, .., identical, and on what differs around all of them."""
    texts = [_counts(found)]
    if not found["rows"] and not found["identical"]["cells"]:
        texts.append("No cell is in both: its name is its task, subset, length, model, seed, samples and options.")
    texts += _by_samples_alone(found)
    if ratios := found["identical"]["ratios"]:
        spread = ", ".join(f"{COSTS[cost]} {_spread_text(each)}" for cost, each in ratios.items())
        texts.append(f"Identical: every answer, on equal terms. Costs, new / old: {spread}.")
    if found["around"]:
        differs = (
            f"{each['what']} {each['old']} -> {each['new']} ({counted(each['cells'], 'cell')})"
            for each in found["around"]
        )
        texts.append(f"Around the cells of both: {'; '.join(differs)}.")
    return texts


def legend(found: Row) -> list[str]:
    """Sentences on what the numbers are, and how p was computed."""
    texts = []
    sides = [row[which] for row in found["rows"] for which in ("old", "new") if row[which]["n"]]
    if sides:
        scorers = ", ".join(dict.fromkeys(side["scorer"] for side in sides))
        rows = sorted(found["rows"], key=lambda row: (row["task"], natural(row["subset"])))
        chance = chances((task_name(row), row["chance"]) for row in rows)
        by = f"old %, new %: right answers, with a 95 % Wilson interval, by {scorers}."
        texts.append(f"{by} {chance}".rstrip())
    if found["comparisons"]:
        texts.append(
            f"diff: points of accuracy, new minus old on the same questions, with a 95 % paired bootstrap interval. "
            f"p: exact McNemar, Holm-corrected over {counted(found['comparisons'], 'comparison')}; "
            f"below {LEVEL} a verdict."
        )
    if any((row["versus"] or {}).get("test") == "betting" for row in found["rows"]):
        texts.append(ANYTIME)
    if any(is_shared(side["contexts"], side["n"]) for side in sides):
        texts.append(SHARED)
    return texts


def by_verdict(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Verdict -> its rows, the most important verdict first, without verdicts that have no row."""
    found: dict[str, list[dict[str, Any]]] = {verdict: [] for verdict in VERDICTS}
    for row in rows:
        found[row["verdict"]].append(row)
    return {verdict: group for verdict, group in found.items() if group}


def cell_name(row: Row) -> str:
    """'babilong:qa1, 16K, atlas-nano, seed 1'."""
    length, model = format_length(row["length"]), clip(row["model"], _NAME_CHARS)
    return ", ".join(filter(None, (task_name(row), length, model, row["tags"])))


def lengths_of(rows: Iterable[Row]) -> list[str]:
    """'babilong:qa1, atlas-nano: 1K, 4K, 16K' for each subset and model."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        name = ", ".join(filter(None, (task_name(row), clip(row["model"], _NAME_CHARS), row["tags"])))
        found[name].append(format_length(row["length"]))
    return [f"{what}: {', '.join(lengths)}" for what, lengths in found.items()]


def remarks(row: Row) -> list[str]:
    """Remarks on a row: what differs, metrics, changed answers, costs."""
    texts = list(row["notes"])
    texts += [f"{which}: {reason(row[which])}" for which in ("old", "new") if row[which]["status"] != "ok"]
    before, after = (row[which]["metrics"] for which in ("old", "new"))
    texts += [f"{what} {_number(before.get(what))} -> {_number(after.get(what))}" for what in {**before, **after}]
    if versus := row["versus"]:
        counts = {what: versus[what] for what in _ANSWERS if versus[what]}
        texts += [f"{count} {_ANSWERS[what]}" for what, count in counts.items()] or ["no other answer"]
        texts += filter(None, [too_few([row]).rstrip(".")])
    if ratios := row["ratios"]:
        texts.append(", ".join(f"{COSTS[cost]} {ratio:.2f}x" for cost, ratio in ratios.items()))
    return texts


def _by_samples_alone(found: Row) -> list[str]:
    """A sentence where cells of the two sets differ in the number of samples alone."""
    old, new = (
        {
            tuple(sorted((name, repr(value)) for name, value in row.items() if name in _SAME)): row["samples"]
            for row in rows
        }
        for rows in (found["only_old"], found["only_new"])
    )
    apart = [(old[key], new[key]) for key in old.keys() & new.keys() if old[key] != new[key]]
    if not apart:
        return []
    before, after = min(apart)
    return [
        f"{counted(len(apart), 'cell')} of both differ in --samples alone ({before} against {after}): a cell of other "
        "samples is another cell. Ask for as many as before to compare them."
    ]


def _counts(found: Row) -> str:
    counts = dict.fromkeys(("worse", "better"), 0)
    counts |= {verdict: len(rows) for verdict, rows in by_verdict(found["rows"]).items()}
    counts["identical"] = found["identical"]["cells"]
    only = f"{len(found['only_old'])} only in the old set, {len(found['only_new'])} only in the new"
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{counted(sum(counts.values()), 'cell')} in both: {kinds}; {only}."


def _spread_text(ratios: Sequence[float]) -> str:
    least, middle, most = (f"{ratio:.2f}x" for ratio in ratios)
    return least if least == most else f"{least} to {most} (half below {middle})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
