"""What changed as text of 80 columns, and in words that a page shares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_bench.results.compare import LEVEL, natural, task_name
from atlas_bench.results.compare_table import SHARED, p_text, reason, too_few, wrapped
from atlas_bench.results.record import clip
from atlas_bench.results.score import is_shared
from atlas_bench.units import format_length

Changes = dict[str, Any]

COSTS = {"tokens_per_second": "tok/s", "peak_rss_bytes": "peak RSS", "state_bytes": "state"}
VERDICTS = {  # the most important first
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
_HEAD = "  old %    n  95 % int.  new %    n  95 % int.    diff     95 % int.     p"


def lines(found: Changes) -> list[str]:
    """The changes as text of 80 columns: what is worse, then better, .. ; identical cells are counted."""
    old, new = (", ".join(found[which]["paths"]) for which in ("old", "new"))
    said = [f"What changed: {old} -> {new}", *summary(found), *legend(found)]
    out = [line for sentence in said for line in wrapped(sentence)]
    for verdict, rows in by_verdict(found["rows"]).items():
        out += ["", f"{verdict} ({len(rows)}): {VERDICTS[verdict]}", _HEAD]
        for row in rows:
            out += _lines(row)
    for which in ("old", "new"):
        missing = found[f"only_{which}"]
        out += ["", f"only in the {which} set ({len(missing)})"] if missing else []
        out += [line for said in lengths_of(missing) for line in wrapped(said, "    ")]
    return out


def summary(found: Changes) -> list[str]:
    """Sentences: how many cells of each kind, what identical ones cost, what differs around the cells."""
    said = [_counts(found)]
    if not found["rows"] and not found["identical"]["cells"]:
        said.append("No cell is in both: its name is its task, subset, length, model, seed, samples and options.")
    said += _by_samples_alone(found)
    if ratios := found["identical"]["ratios"]:
        spread = ", ".join(f"{COSTS[cost]} {_spread_text(each)}" for cost, each in ratios.items())
        said.append(f"Identical: every answer, on equal terms. Costs, new / old: {spread}.")
    if found["around"]:
        differs = (
            f"{each['what']} {each['old']} -> {each['new']} ({_count(each['cells'])})" for each in found["around"]
        )
        said.append(f"Around the cells of both: {'; '.join(differs)}.")
    return said


def legend(found: Changes) -> list[str]:
    """Sentences: what the numbers are, and how p was made."""
    said = []
    sides = [row[which] for row in found["rows"] for which in ("old", "new") if row[which]["n"]]
    if sides:
        scorers = ", ".join(dict.fromkeys(side["scorer"] for side in sides))
        said.append(f"old %, new %: right answers, with a 95 % Wilson interval, by {scorers}.{_chances(found['rows'])}")
    if found["comparisons"]:
        said.append(
            f"diff: points of accuracy, new minus old on the same questions, with a 95 % paired bootstrap interval. "
            f"p: exact McNemar, Holm-corrected over {found['comparisons']} comparisons; below {LEVEL} a verdict."
        )
    if any(is_shared(side["contexts"], side["n"]) for side in sides):
        said.append(SHARED)
    return said


def _by_samples_alone(found: Changes) -> list[str]:
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


def _counts(found: Changes) -> str:
    counts = dict.fromkeys(("worse", "better"), 0)
    counts |= {verdict: len(rows) for verdict, rows in by_verdict(found["rows"]).items()}
    counts["identical"] = found["identical"]["cells"]
    only = f"{len(found['only_old'])} only in the old set, {len(found['only_new'])} only in the new"
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{_count(sum(counts.values()))} in both: {kinds}; {only}."


def _chances(rows: Iterable[Mapping[str, Any]]) -> str:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: (row["task"], natural(row["subset"]))):
        if row["chance"] is not None:
            found[f"{100 * row['chance']:.1f} %"][task_name(row)] = None
    said = "; ".join(f"{chance} ({', '.join(tasks)})" for chance, tasks in found.items())
    return f" Chance: {said}." if said else ""


def by_verdict(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Verdict -> its rows, the most important verdict first; only those that there are."""
    found = {verdict: [] for verdict in VERDICTS}
    for row in rows:
        found[row["verdict"]].append(row)
    return {verdict: group for verdict, group in found.items() if group}


def cell_name(row: Mapping[str, Any]) -> str:
    """'babilong:qa1, 16K, atlas-nano, seed 1'."""
    length, model = format_length(row["length"]), clip(row["model"], _NAME_CHARS)
    return ", ".join(filter(None, (task_name(row), length, model, row["tags"])))


def lengths_of(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """'babilong:qa1, atlas-nano: 1K, 4K, 16K' for each subset and model."""
    found: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        name = ", ".join(filter(None, (task_name(cell), clip(cell["model"], _NAME_CHARS), cell["tags"])))
        found[name].append(format_length(cell["length"]))
    return [f"{what}: {', '.join(lengths)}" for what, lengths in found.items()]


def remarks(row: Mapping[str, Any]) -> list[str]:
    """What else is to be said of a row: what differs, metrics, changed answers, costs."""
    said = list(row["notes"])
    said += [f"{which}: {reason(row[which])}" for which in ("old", "new") if row[which]["status"] != "ok"]
    before, after = (row[which]["metrics"] for which in ("old", "new"))
    metrics = dict.fromkeys([*before, *after])
    said += [f"{what} {_number(before.get(what))} -> {_number(after.get(what))}" for what in metrics]
    if versus := row["versus"]:
        counts = {what: versus[what] for what in _ANSWERS if versus[what]}
        said += [f"{count} {_ANSWERS[what]}" for what, count in counts.items()] or ["no other answer"]
        said += filter(None, [too_few([versus]).rstrip(".")])
    if ratios := row["ratios"]:
        said.append(", ".join(f"{COSTS[cost]} {ratio:.2f}x" for cost, ratio in ratios.items()))
    return said


def _lines(row: Mapping[str, Any]) -> list[str]:
    cells = [part for which in ("old", "new") for part in _score(row[which])]
    if versus := row["versus"]:
        points = [100 * versus[part] for part in ("difference", "low", "high")]
        cells += [f"{points[0]:+.1f}", f"{points[1]:+.1f}..{points[2]:+.1f}", p_text(versus["p_holm"])]
    numbers = [_columns(*cells)] if any(cells) else []
    return [*wrapped(cell_name(row)), *numbers, *wrapped("; ".join(remarks(row)), "    ", "    ")]


def _score(side: Mapping[str, Any]) -> list[str]:
    if side["accuracy"] is None:
        return ["", "", ""]
    return [f"{100 * side['accuracy']:.1f}", str(side["n"]), f"{100 * side['low']:.1f}-{100 * side['high']:.1f}"]


def _columns(*cells: str) -> str:
    widths = (7, 4, 10, 6, 4, 10, 7, 13, 5)
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False)).rstrip()


def _spread_text(ratios: Sequence[float]) -> str:
    least, middle, most = (f"{ratio:.2f}x" for ratio in ratios)
    return least if least == most else f"{least} to {most} (half below {middle})"


def _count(cells: int) -> str:
    return f"{cells} cell" if cells == 1 else f"{cells} cells"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
