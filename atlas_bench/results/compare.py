"""Candidates against the first of them, from records alone: paired, corrected, with what each of them costs.

    comparison = compare(records, ["titans", "atlas"])     # plain data: lists, dicts, numbers

The samples of a cell are the same for all models (equal plan_hash), so a difference is taken question by
question. Questions on one context are not independent: their context is then what is drawn and tested.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from atlas_bench.results.labels import natural
from atlas_bench.results.pair_labels import LEVEL
from atlas_bench.results.record import Record
from atlas_bench.results.score import scored, spreads, unit
from atlas_bench.results.stats import Spread, discordant, holm, mcnemar_exact, paired_bootstrap, sign_flip
from atlas_bench.units import format_length

UNEQUAL = 0.05  # share by which a cost may differ from the baseline's without a warning
COSTS = {"parameters": "parameters", "state_bytes": "bytes of state", "training_tokens": "training tokens"}

Comparison = dict[str, Any]


def compare(records: Iterable[Record], candidates: Sequence[str] | None = None) -> Comparison:
    """{"baseline", "contenders", "comparisons", "rows", "costs", "warnings"} as plain data, fit for JSON.

    records     of any cells; of several for one candidate and cell the last counts
    candidates  models in order, the baseline first; by default as they come in the records
    rows        one per cell and candidate: status, score, metrics, and "versus" (None for the baseline): difference
                to the baseline with interval, p, Holm-corrected p and verdict, or a "note" why there is none
    """
    cells: dict[tuple, dict[str, Record]] = defaultdict(dict)
    for record in records:
        options = json.dumps(record.options, sort_keys=True)
        cells[record.task, record.subset, record.length, record.seed, options][record.model] = record
    order = list(candidates or dict.fromkeys(name for models in cells.values() for name in models))
    rows = []
    for key in sorted(cells, key=lambda key: (key[0], natural(key[1]), *key[2:])):
        found = {name: cells[key][name] for name in order if name in cells[key]}
        rows += [_row(record, found.get(order[0])) for record in found.values()]
    tested = [row["versus"] for row in rows if row["versus"] and "p" in row["versus"]]
    judge(tested)
    costs = _costs(cells.values(), order)
    return {
        "baseline": order[0] if order else None,
        "contenders": order,
        "comparisons": len(tested),
        "rows": rows,
        "costs": costs,
        "warnings": _warnings(cells.values(), order),
    }


def judge(tested: Sequence[dict[str, Any]]) -> None:
    """Give each paired difference its "p_holm", corrected for all of them, and its "verdict"."""
    for versus, p in zip(tested, holm([versus["p"] for versus in tested]), strict=True):
        better = "better" if versus["difference"] > 0 else "worse"
        versus |= {"p_holm": p, "verdict": better if p < LEVEL else "not separable"}


def score(record: Record) -> dict[str, Any]:
    """The headline's score as score.scored() has it; what there is not is None."""
    found = record.scores.get(record.headline or "")
    if record.status != "ok" or not found or not found["n"]:
        return dict.fromkeys(scored(0, 0))
    made = scored(found["correct"], found["n"], spreads(record).get(record.headline, Spread()))
    return made | {"contexts": len({unit(answer) for answer in record.answers}) or None}


def scored_by(record: Record) -> str:
    """Name and version of the headline's scorer: 'babilong/official 1'."""
    return f"{record.headline} {record.scorer_version.get(record.headline or '')}" if record.headline else "none"


def pairs(record: Record, baseline: Record) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(answer, the baseline's answer) to each question that the record's headline scorer judged in both."""
    before = {answer["index"]: answer for answer in baseline.answers}
    both = [(answer, before[answer["index"]]) for answer in record.answers if answer["index"] in before]
    return [pair for pair in both if all(record.headline in answer.get("correct", {}) for answer in pair)]


def difference(paired: Sequence[tuple[dict[str, Any], dict[str, Any]]], *, scorer: str) -> dict[str, Any]:
    """How much better the first of each pair of answers is: difference in -1..1 with low and high, and p.

    paired  answers to the same questions, at least one; those that share a context count as one unit
    """
    a, b = ([answer["correct"][scorer] for answer in side] for side in zip(*paired, strict=True))
    units = [unit(answer) for answer, _ in paired]
    mean, low, high = paired_bootstrap(a, b, clusters=units)
    here, there = discordant(a, b)
    flips = len(set(units)) < len(units) or not all(isinstance(verdict, bool) for verdict in (*a, *b))
    nets: dict[int, float] = defaultdict(float)
    for context, right, wrong in zip(units, a, b, strict=True):
        nets[context] += right - wrong
    return {
        "n": len(paired),
        "difference": mean,
        "low": low,
        "high": high,
        "only_contender": here,
        "only_baseline": there,
        "contexts": len(set(units)),
        "test": "sign flips of contexts" if flips else "McNemar",
        "p": sign_flip(list(nets.values())) if flips else mcnemar_exact(here, there),
    }


def _row(record: Record, baseline: Record | None) -> dict[str, Any]:
    named = ("task", "subset", "length", "seed", "options", "task_version", "model", "status", "reason", "chance")
    versions = {"scorer": record.headline, "scorer_version": record.scorer_version.get(record.headline or "")}
    row = {name: getattr(record, name) for name in named} | versions | score(record) | {"metrics": record.metrics}
    return row | {"versus": None if baseline is record else _versus(record, baseline)}


def _versus(record: Record, baseline: Record | None) -> dict[str, Any]:
    """The paired difference to the baseline, or a note why there is none."""
    if baseline is None:
        return {"note": "not comparable: the baseline has no record of this cell"}
    if record.status != "ok" or baseline.status != "ok":
        same = record.status == baseline.status
        return {"note": f"both {record.status}" if same else f"{baseline.status} -> {record.status}"}
    for what, ours, theirs in (
        ("scored by", scored_by(record), scored_by(baseline)),
        ("of task version", record.task_version, baseline.task_version),
        ("asked other samples: plan", record.plan_hash, baseline.plan_hash),
    ):
        if ours != theirs:
            return {"note": f"not comparable: {what} {ours}, the baseline {theirs}"}
    if record.headline is None:
        return {"note": "not tested: metrics are no scores"}
    paired = pairs(record, baseline)
    return difference(paired, scorer=record.headline) if paired else {"note": "not comparable: no sample in common"}


def _costs(cells: Iterable[dict[str, Record]], order: Sequence[str]) -> list[dict[str, Any]]:
    """One row per candidate and task, of the longest cell that it finished."""
    longest: dict[tuple[str, str], Record] = {}
    for models in cells:
        for name, record in models.items():
            best = longest.get((name, record.task))
            if record.status == "ok" and (best is None or record.length >= best.length):
                longest[name, record.task] = record
    named = ("model", "task", "length", "parameters", "state_bytes", "training_tokens", "tokens_per_second")
    found = sorted(longest, key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key[1]))
    return [{name: getattr(longest[key], name) for name in named} for key in found if key[0] in order]


def _warnings(cells: Iterable[dict[str, Record]], order: Sequence[str]) -> list[str]:
    """A sentence for every cost that is not the baseline's, of the longest cell that both finished."""
    latest: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    for models in cells:
        baseline = models.get(order[0])
        for name in order[1:]:
            record = models.get(name)
            if record is None or baseline is None or {record.status, baseline.status} != {"ok"}:
                continue
            for cost in COSTS:
                ours, theirs = getattr(record, cost), getattr(baseline, cost)
                if ours is not None and theirs is not None:
                    latest[name, cost, record.task] = max(
                        latest.get((name, cost, record.task), (0, 0, 0)), (record.length, ours, theirs)
                    )
    sentences: dict[str, list[str]] = defaultdict(list)
    for (name, cost, task), (length, ours, theirs) in latest.items():
        if abs(ours - theirs) > UNEQUAL * theirs:
            at = f" at {format_length(length)}" if cost == "state_bytes" else ""
            sentences[f"{name}: {ours:,} {COSTS[cost]}{at}, {_share(ours, theirs)} {order[0]}'s {theirs:,}"].append(
                task
            )
    tasks = {task for *_, task in latest}
    return [
        f"{said} on {', '.join(found)}." if len(found) < len(tasks) else f"{said}." for said, found in sentences.items()
    ]


def _share(ours: int, theirs: int) -> str:
    """'12 % more than', '3.5 times'."""
    if not theirs or ours >= 2 * theirs:
        return f"{ours / theirs:.1f} times" if theirs else "against"
    return f"{100 * abs(ours / theirs - 1):.0f} % {'more' if ours > theirs else 'less'} than"
