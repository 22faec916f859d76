"""Records -> the paired differences of candidates to the first of them, Holm-corrected, and what each costs.

    comparison = compare(records, ["titans", "atlas"])     # plain data: lists, dicts, numbers

All models answer the same samples of a cell (equal plan_hash), so we take a difference question by question.
Questions on one context are not independent: we then draw and test contexts. Where each seed of a cell has weights of
its own, a verdict is about trainings with any seed, not about these weights alone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from operator import sub
from statistics import fmean
from typing import Any

from atlas_bench.comparison.labels import LEVEL
from atlas_bench.results.naming import natural
from atlas_bench.results.record import Record
from atlas_bench.results.score import Score, is_sequential, mean_metrics, scores, total, unit
from atlas_bench.results.summary import reported
from atlas_bench.stats import sequential
from atlas_bench.stats.pairs import discordant, holm, mcnemar_exact, over_seeds, paired_bootstrap, sign_flip
from atlas_bench.units import format_length

UNEQUAL = 0.05  # share by which a cost may differ from the baseline's without a warning
COSTS = {"parameters": "parameters", "state_bytes": "bytes of state", "training_tokens": "training tokens"}

Comparison = dict[str, Any]
Cells = dict[tuple[Any, ...], dict[str, dict[int, Record]]]  # what is asked -> candidate -> seed -> record


def compare(records: Iterable[Record], candidates: Sequence[str] | None = None) -> Comparison:
    """{"baseline", "candidates", "comparisons", "rows", "costs", "warnings"} as plain data, fit for JSON.

    records     of any cells; of several for one candidate, cell and seed the last counts
    candidates  models in order, the baseline first; by default as they come in the records
    rows        one per cell and candidate over all its "seeds": status, score, metrics, "trainings" (how many weights
                the seeds have), "by_seed" (the accuracy of each), and "versus" (None for the baseline): difference
                to the baseline with interval, p, Holm-corrected p and verdict, or a "note" why there is none
    """
    cells: Cells = defaultdict(lambda: defaultdict(dict))
    for record in records:
        options = json.dumps(record.options, sort_keys=True)
        cells[record.task, record.subset, record.length, options][record.model][record.seed] = reported(record)
    order = list(candidates or dict.fromkeys(name for models in cells.values() for name in models))
    rows = []
    for key in sorted(cells, key=lambda key: (key[0], natural(key[1]), *key[2:])):
        found = {name: dict(sorted(cells[key][name].items())) for name in order if name in cells[key]}
        rows += [_row(own, found.get(order[0], {})) for own in found.values()]
    tested = [row["versus"] for row in rows if row["versus"] and "p" in row["versus"]]
    judge(tested)
    return {
        "baseline": order[0] if order else None,
        "candidates": order,
        "comparisons": len(tested),
        "rows": rows,
        "costs": _costs(cells, order),
        "warnings": _warnings(cells, order),
    }


def judge(tested: Sequence[dict[str, Any]]) -> None:
    """Give each paired difference its "p_holm", corrected for all of them, and its "verdict".

    "contexts_needed" is None, or, where no difference on so few contexts could be significant beside the others, a
    number of contexts that suffices.
    """
    found = [versus["p"] for versus in tested]
    for i, (versus, p) in enumerate(zip(tested, holm(found), strict=True)):
        better = "better" if versus["difference"] > 0 else "worse"
        least = partial(_least_p, betting=versus["test"] == "betting")
        best = least(versus["contexts"])
        reachable = len(found) * best < LEVEL or holm([*found[:i], best, *found[i + 1 :]])[i] < LEVEL
        versus |= {
            "p_holm": p,
            "verdict": better if p < LEVEL else "not separable",
            "contexts_needed": None if reachable else next(k for k in count(1) if len(found) * least(k) < LEVEL),
        }


def _least_p(contexts: int, *, betting: bool) -> float:
    """The smallest p of a test on so many contexts: one side wins all of them."""
    return 1 / sequential.evidence(((1.0, contexts),)) if betting else 2.0 ** (1 - contexts)


def score(*records: Record) -> dict[str, Any]:
    """The headline's score as Score.facts() returns it, over the seeds of one cell; None: not measured.

    Where each seed has its own weights, the interval is over trainings, and no narrower than that of all answers.
    """
    found = [scores(record).get(record.headline or "", Score(0, 0)) for record in records]
    if any(record.status != "ok" for record in records) or not all(each.n for each in found):
        return dict.fromkeys(Score(0, 0).facts())
    told = total(found).facts()
    if trainings(records) > 1:
        low, high, _ = over_seeds([each.correct / each.n for each in found])
        told |= {"low": max(0.0, min(low, told["low"])), "high": min(1.0, max(high, told["high"]))}
    contexts = sum(len({unit(answer) for answer in record.answers}) for record in records)
    return told | {"contexts": contexts or None}


def trainings(records: Iterable[Record]) -> int:
    """The number of different weights that answered."""
    return len({record.weights_hash for record in records})


def scored_by(record: Record) -> str:
    """Name and version of the headline's scorer: 'babilong/official 1'."""
    return f"{record.headline} {record.scorer_version.get(record.headline or '')}" if record.headline else "none"


def pairs(record: Record, baseline: Record) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(answer, the baseline's answer) to each question that the record's headline scorer judged in both."""
    before = {answer["index"]: answer for answer in baseline.answers}
    both = [(answer, before[answer["index"]]) for answer in record.answers if answer["index"] in before]
    return [pair for pair in both if all(record.headline in answer.get("correct", {}) for answer in pair)]


def difference(
    *groups: Sequence[tuple[dict[str, Any], dict[str, Any]]], scorer: str, trained: bool = False, anytime: bool = False
) -> dict[str, Any]:
    """How much better the first of each pair of answers is: difference in -1..1 with low and high, and p.

    groups   answers to the same questions, at least one, for each seed; those that share a context count as one unit
    trained  whether each seed has a training of its own. Interval and p are then those of stats.pairs.over_seeds(),
             and no surer than those of all answers together
    anytime  whether the answers decided when to stop. Interval and p are then those of stats.sequential
    """
    paired = [pair for group in groups for pair in group]
    a, b = ([answer["correct"][scorer] for answer in side] for side in zip(*paired, strict=True))
    contexts = [(seed, unit(answer)) for seed, group in enumerate(groups) for answer, _ in group]
    numbers = {context: i for i, context in enumerate(dict.fromkeys(contexts))}
    here, there = discordant(a, b)
    found = {"n": len(paired), "only_candidate": here, "only_baseline": there, "contexts": len(numbers)}
    found["questions_per_context"] = max(Counter(contexts).values())
    nets: dict[int, list[float]] = defaultdict(list)
    for context, right, wrong in zip(contexts, a, b, strict=True):
        nets[numbers[context]].append(right - wrong)
    if anytime:
        differences = sequential.counted(map(fmean, nets.values()))
        low, high = sequential.difference_interval(differences)
        betting = {"test": "betting", "p": min(1.0, 1 / sequential.evidence(differences))}
        return found | {"difference": fmean(map(sub, a, b)), "low": low, "high": high} | betting
    mean, low, high = paired_bootstrap(a, b, clusters=[numbers[context] for context in contexts])
    flips = len(numbers) < len(contexts) or not all(isinstance(verdict, bool) for verdict in (*a, *b))
    p = sign_flip([sum(net) for net in nets.values()]) if flips else mcnemar_exact(here, there)
    found |= {"difference": mean, "low": low, "high": high, "test": "sign flips of contexts" if flips else "McNemar"}
    if not trained or len(groups) < 2:
        return found | {"p": p}
    means = [fmean(x["correct"][scorer] - y["correct"][scorer] for x, y in group) for group in groups]
    lowest, highest, over = over_seeds(means)
    bounds = {"low": max(-1.0, min(low, lowest)), "high": min(1.0, max(high, highest))}
    return found | bounds | {"by_seed": means, "p": max(p, over), "test": f"t over {len(means)} seeds"}


def _row(records: dict[int, Record], baseline: dict[int, Record]) -> dict[str, Any]:
    """One candidate in one cell, over all its seeds; status and reason are of the first seed without a score."""
    seeds = list(records)
    shown = next((record for record in records.values() if record.status != "ok"), records[seeds[0]])
    named = ("task", "subset", "length", "options", "task_version", "model", "status", "reason", "chance")
    row = {name: getattr(shown, name) for name in named} | {"seeds": seeds, "trainings": trainings(records.values())}
    if len({record.reason for record in records.values()}) > 1:
        row["reason"] = f"seed {shown.seed}: {shown.reason}"
    row |= {"scorer": shown.headline, "scorer_version": shown.scorer_version.get(shown.headline or "")}
    row |= score(*records.values()) | {"metrics": mean_metrics(list(records.values())), "training": shown.training}
    row["by_seed"] = [score(record)["accuracy"] for record in records.values()]
    row |= {"stopping": shown.protocol.get("stopping"), "samples": sum(record.samples for record in records.values())}
    return row | {"versus": None if baseline is records else _versus(records, baseline)}


def _versus(records: Mapping[int, Record], baseline: Mapping[int, Record]) -> dict[str, Any]:
    """The paired difference to the baseline, or a note why there is none."""
    if not baseline:
        return {"note": "not comparable: the baseline has no record of this cell"}
    for seed, record in records.items():
        if why := _incomparable(record, baseline.get(seed)):
            return {"note": f"seed {seed}: {why}" if len(records) > 1 and "->" not in why else why}
    both = [*records.values(), *(baseline[seed] for seed in records)]
    groups = [pairs(record, baseline[seed]) for seed, record in records.items()]
    if not all(groups):
        return {"note": "not comparable: no sample in common"}
    return difference(
        *groups, scorer=both[0].headline, anytime=any(map(is_sequential, both)),
        trained=max(trainings(records.values()), trainings(baseline.values())) > 1,
    )  # fmt: skip


def _incomparable(record: Record, baseline: Record | None) -> str | None:
    """Why the answers to the same questions cannot be compared; None where they can."""
    if baseline is None:
        return "not comparable: the baseline has no record of this seed"
    if record.status != "ok" or baseline.status != "ok":
        same = record.status == baseline.status
        return f"both {record.status}" if same else f"{baseline.status} -> {record.status}"
    plans = [record.plan_hash, baseline.plan_hash]
    if is_sequential(record) or is_sequential(baseline):  # one was asked more than the other
        plans = [_questions(record, baseline), _questions(baseline, record)]
    for what, ours, theirs in (
        ("scored by", scored_by(record), scored_by(baseline)),
        ("of task version", record.task_version, baseline.task_version),
        ("asked other samples: plan", *plans),
    ):
        if ours != theirs:
            return f"not comparable: {what} {ours}, the baseline {theirs}"
    return "not tested: metrics are no scores" if record.headline is None else None


def _questions(record: Record, other: Record) -> str:
    """A hash of the questions and right answers of the samples that both were asked."""
    both = {answer["index"] for answer in other.answers}
    asked = [(each["index"], each["question"], each["targets"]) for each in record.answers if each["index"] in both]
    return hashlib.sha256(json.dumps(sorted(asked)).encode()).hexdigest()[:16]


def _longest(cells: Cells, *names: str) -> dict[str, list[Record]]:
    """Task -> the records of the longest cell and seed that all of these candidates finished."""
    found: dict[str, list[Record]] = {}
    for models in cells.values():
        own = [models.get(name, {}) for name in names]
        for seed in sorted(set.intersection(*map(set, own))):
            records = [each[seed] for each in own]
            task, length = records[0].task, records[0].length
            if all(record.status == "ok" for record in records) and found.get(task, records)[0].length <= length:
                found[task] = records
    return found


def _costs(cells: Cells, order: Sequence[str]) -> list[dict[str, Any]]:
    """One row per candidate and task, of the longest cell that it finished."""
    named = ("model", "task", "length", "parameters", "state_bytes", "training_tokens", "tokens_per_second")
    found = [record for model in order for _, (record,) in sorted(_longest(cells, model).items())]
    return [{name: getattr(record, name) for name in named} for record in found]


def _warnings(cells: Cells, order: Sequence[str]) -> list[str]:
    """A sentence for every cost that differs from the baseline's, in the longest cell that both finished."""
    sentences: dict[str, list[str]] = defaultdict(list)
    tasks = set()
    for model in order[1:]:
        for task, (record, baseline) in _longest(cells, model, order[0]).items():
            tasks.add(task)
            for cost, words in COSTS.items():
                ours, theirs = getattr(record, cost), getattr(baseline, cost)
                if ours is not None and theirs is not None and abs(ours - theirs) > UNEQUAL * theirs:
                    at = f" at {format_length(record.length)}" if cost == "state_bytes" else ""
                    than = f"{_share(ours, theirs)} {order[0]}'s {theirs:,}"
                    sentences[f"{model}: {ours:,} {words}{at}, {than}"].append(task)
    return [f"{said} on {', '.join(on)}." if len(on) < len(tasks) else f"{said}." for said, on in sentences.items()]


def _share(ours: int, theirs: int) -> str:
    """'12 % more than', '3.5 times'."""
    if not theirs or ours >= 2 * theirs:
        return f"{ours / theirs:.1f} times" if theirs else "against"
    return f"{100 * abs(ours / theirs - 1):.0f} % {'more' if ours > theirs else 'less'} than"
