"""What text and page say of comparisons and of changes, in plain words; a verdict only where two can be told apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import stdev
from typing import Any

from atlas_bench.results.naming import chances, metrics_text, natural, reason, tag_text, tags, task_name
from atlas_bench.results.record import clip
from atlas_bench.results.score import is_shared
from atlas_bench.units import format_length

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

Row = Mapping[str, Any]


def p_text(p: float) -> str:
    """'0.021'; '<.001' for what is smaller."""
    return f"{p:.3f}" if p >= 0.001 else "<.001"


# Comparisons


def cells(comparison: Row) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """('babilong:qa1', '16K, seeds 1 (chance 16.7 %)', its rows) of each cell, in order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row, tag in zip(comparison["rows"], tags(comparison["rows"], ("task", "subset"), ("seeds",)), strict=True):
        found[task_name(row), ", ".join(filter(None, (format_length(row["length"]), tag_text(tag))))].append(row)
    return [(task, at + _chance(rows), rows) for (task, at), rows in found.items()]


def legend(comparison: Row) -> list[str]:
    """Sentences that say what the numbers are and how p was made."""
    rows = comparison["rows"]
    scorers = dict.fromkeys(f"{row['scorer']} version {row['scorer_version']}" for row in rows if row["n"])
    first = (
        f"Baseline: {comparison['baseline']}. diff: points of accuracy, with a 95 % paired bootstrap interval. "
        f"p: exact McNemar, Holm-corrected over {comparison['comparisons']} comparisons; below {LEVEL} a verdict."
    )
    if any(is_shared(row["contexts"], row["n"]) for row in rows):
        first += f" {SHARED}"
    more = [OVER_SEEDS] if any(row["trainings"] > 1 for row in rows) else []
    more += [ANYTIME] if any(row["stopping"] for row in rows) else []
    scored = [f"acc %, with a 95 % Wilson interval, by {', '.join(scorers)}."] if scorers else []
    return [first, *more, *scored, *filter(None, [comparison.get("training")])]


def too_few(rows: Iterable[Row]) -> str:
    """A sentence where a cell has so few contexts that no difference could be told; else empty."""
    units = min((row["contexts"] for row in rows if row["contexts"]), default=0)
    if not units or 2.0 ** (1 - units) < LEVEL:
        return ""
    return f"Only {units} contexts: no difference could reach p < {LEVEL}. Ask for more --samples."


def why(row: Row) -> str:
    """What stands instead of a score, or of a difference; empty where there are both."""
    note = (row["versus"] or {}).get("note", "")
    if row["status"] != "ok":
        return ". ".join(filter(None, (note if "->" in note else "", reason(row))))
    return metrics_text(row["metrics"]) if row["accuracy"] is None else note


def cell_remarks(row: Row) -> list[str]:
    """What stands under a score: how it differs from seed to seed, and where asking stopped."""
    texts = []
    if row["accuracy"] is not None and row["trainings"] > 1:
        scores = [100 * accuracy for accuracy in row["by_seed"]]
        shown = ", ".join(f"{score:.1f}" for score in scores)
        if len(scores) > LISTED:
            shown = f"{min(scores):.1f}..{max(scores):.1f}"
        texts.append(f"{len(scores)} seeds: {shown}; sd {stdev(scores):.1f}")
    if row["accuracy"] is not None and isinstance(row["stopping"], dict) and row["n"] < row["samples"]:
        rule = STOPS.get(str(row["stopping"].get("rule")), "the answers sufficed")
        texts.append(f"asked {row['n']:,} of {row['samples']:,}: {rule}")
    return texts


def rate_lines(comparison: Row) -> list[str]:
    """'titans on mqar: x0.33 2.301, x1 1.104 (chosen), x3 failed' for each candidate and task whose rate was chosen."""
    return [f"{each['candidate']} on {each['task']}: {_tried(each)}" for each in comparison.get("rates", ())]


def _tried(each: Row) -> str:
    """What each rate reached, and what to type if the best one is the least or the largest of them."""
    advice = f"; --rates {each['beyond']} tries rates beyond it" if each.get("beyond") else ""
    return ", ".join(
        f"x{rate['factor']:.3g} {'failed' if rate['loss'] is None else format(rate['loss'], '.3f')}"
        + " (chosen)" * (rate["factor"] == each["chosen"])
        for rate in each["tried"]
    ) + advice  # fmt: skip


def _chance(rows: Sequence[Row]) -> str:
    chance = next((row["chance"] for row in rows if row["chance"] is not None), None)
    return "" if chance is None else f" (chance {100 * chance:.1f} %)"


# Changes


def summary(found: Row) -> list[str]:
    """Sentences: how many cells are worse, better, .., identical, and what differs around all of them."""
    texts = [_counts(found)]
    if not found["rows"] and not found["identical"]["cells"]:
        texts.append("No cell is in both: its name is its task, subset, length, model, seed, samples and options.")
    texts += _by_samples_alone(found)
    if ratios := found["identical"]["ratios"]:
        spread = ", ".join(f"{COSTS[cost]} {_spread_text(each)}" for cost, each in ratios.items())
        texts.append(f"Identical: every answer, on equal terms. Costs, new / old: {spread}.")
    if found["around"]:
        differs = (
            f"{each['what']} {each['old']} -> {each['new']} ({_count(each['cells'])})" for each in found["around"]
        )
        texts.append(f"Around the cells of both: {'; '.join(differs)}.")
    return texts


def changes_legend(found: Row) -> list[str]:
    """Sentences: what the numbers are, and how p was made."""
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
            f"p: exact McNemar, Holm-corrected over {found['comparisons']} comparisons; below {LEVEL} a verdict."
        )
    if any(is_shared(side["contexts"], side["n"]) for side in sides):
        texts.append(SHARED)
    return texts


def by_verdict(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Verdict -> its rows, the most important verdict first; only those that there are."""
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
    """What else is to be said of a row: what differs, metrics, changed answers, costs."""
    texts = list(row["notes"])
    texts += [f"{which}: {reason(row[which])}" for which in ("old", "new") if row[which]["status"] != "ok"]
    before, after = (row[which]["metrics"] for which in ("old", "new"))
    texts += [f"{what} {_number(before.get(what))} -> {_number(after.get(what))}" for what in {**before, **after}]
    if versus := row["versus"]:
        counts = {what: versus[what] for what in _ANSWERS if versus[what]}
        texts += [f"{count} {_ANSWERS[what]}" for what, count in counts.items()] or ["no other answer"]
        texts += filter(None, [too_few([versus]).rstrip(".")])
    if ratios := row["ratios"]:
        texts.append(", ".join(f"{COSTS[cost]} {ratio:.2f}x" for cost, ratio in ratios.items()))
    return texts


def _by_samples_alone(found: Row) -> list[str]:
    """That cells of both sets would be one but for how many questions were asked."""
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
        f"{_count(len(apart))} of both differ in --samples alone ({before} against {after}): a cell of other samples is"
        " another cell. Ask for as many as before to compare them."
    ]


def _counts(found: Row) -> str:
    counts = dict.fromkeys(("worse", "better"), 0)
    counts |= {verdict: len(rows) for verdict, rows in by_verdict(found["rows"]).items()}
    counts["identical"] = found["identical"]["cells"]
    only = f"{len(found['only_old'])} only in the old set, {len(found['only_new'])} only in the new"
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{_count(sum(counts.values()))} in both: {kinds}; {only}."


def _spread_text(ratios: Sequence[float]) -> str:
    least, middle, most = (f"{ratio:.2f}x" for ratio in ratios)
    return least if least == most else f"{least} to {most} (half below {middle})"


def _count(cells: int) -> str:
    return f"{cells} cell" if cells == 1 else f"{cells} cells"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
