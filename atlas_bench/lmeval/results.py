"""lm-eval's results of one task as scores, metrics and answers of a record.

    {"results": {"piqa": {"acc,none": 0.61, "acc_stderr,none": .011, ..}}, "samples": {"piqa": [{"acc": 1.0, ..}, ..]}}
    -> scores {"acc": {"correct": 1121, "n": 1838}, "acc_norm": ..}, a row of answers for each document

A metric is a score if it is the mean over documents of numbers in 0..1, higher being better. Every other metric
(perplexity, bits per byte, ..) goes to `metrics` with lm-eval's standard error. A metric of a filter other than "none"
is named "metric,filter"; a metric with several numbers "metric,part".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.utils import hash_string

from atlas_bench.results.record import answer_row

QUESTION_CHARS = 120  # of a prompt's end: a reader knows the document by it
MISSING = -1  # what lm-eval's long-context tasks report of lengths that were not asked


def read(results: Mapping[str, Any], name: str, headline: str | None = None) -> dict[str, Any]:
    """Fields of a Record: scores, scorer_version, headline, chance, metrics, answers, data_hash.

    headline  the score to show first; else the task's first
    """
    samples = results["samples"][name]
    judged = _judged(samples)
    scores, metrics = _split(judged, results["results"][name], results["higher_is_better"][name])
    version = str(results["versions"][name])
    first = headline if headline in scores else next(iter(scores), None)
    asked = {sample["doc_id"]: sample for sample in samples}  # a document has a sample for each filter
    choices = [sample for sample in asked.values() if _is_choice(sample)]
    return {
        "scores": scores,
        "scorer_version": dict.fromkeys(scores, version),
        "headline": first,
        "chance": _chance(choices) if choices and str(first).startswith("acc") else None,
        "metrics": metrics,
        "answers": [_row(sample, judged, scores) for sample in asked.values()] if scores else [],
        "data_hash": task_hash(samples),
    }


def task_hash(samples: Sequence[Mapping[str, Any]]) -> str:
    """lm-eval's hash of documents, prompts and targets: equal ones were asked the same."""
    return hash_string(
        "".join(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in samples)
    )


def _judged(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, Any]]:
    """(metric, filter) -> document -> value."""
    values: dict[tuple[str, str], dict[int, Any]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            values.setdefault((metric, sample["filter"]), {})[sample["doc_id"]] = sample[metric]
    return values


def _split(
    judged: Mapping[tuple[str, str], Mapping[int, Any]],
    totals: Mapping[str, Any],
    higher_is_better: Mapping[str, bool | None],
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """(scores, metrics)."""
    scores: dict[str, dict[str, float]] = {}
    metrics: dict[str, float] = {}
    for (metric, kind), values in judged.items():
        key, total = _key(metric, kind), totals[f"{metric},{kind}"]
        shares = [float(value) for value in values.values() if _is_share(value)]
        counts = len(shares) == len(values) and math.isclose(total, math.fsum(shares) / len(shares), abs_tol=1e-9)
        if counts and higher_is_better.get(metric):
            right = math.fsum(shares)
            scores[key] = {"correct": int(right) if right.is_integer() else right, "n": len(shares)}
        elif isinstance(total, Mapping):  # LIBRA's means by length
            metrics |= {f"{key},{part}": float(value) for part, value in total.items() if _is_number(value)}
        elif _is_number(total) and total != MISSING:
            error = totals.get(f"{metric}_stderr,{kind}")
            metrics |= {key: float(total)} | ({f"{key}_stderr": float(error)} if _is_number(error) else {})
    return scores, metrics


def _row(
    sample: Mapping[str, Any], judged: Mapping[tuple[str, str], Mapping[int, Any]], scores: Mapping[str, Any]
) -> dict[str, Any]:
    document, (first, *_) = sample["doc_id"], sample["arguments"]
    correct = {_key(*which): values[document] for which, values in judged.items() if document in values}
    target, replies = sample["target"], sample["filtered_resps"]
    if _is_choice(sample):
        texts = [arguments[1].strip() for arguments in sample["arguments"]]
        answer = texts[max(range(len(replies)), key=lambda i: replies[i][0])]
        target = texts[target] if isinstance(target, int) and target < len(texts) else target
    else:
        answer = replies[0] if isinstance(replies[0], str) else ""
    return answer_row(
        document,
        question=first[0][-QUESTION_CHARS:] if len(first) > 1 else "",
        targets=[str(one) for one in (target if isinstance(target, list) else [target])] if len(first) > 1 else [],
        answer=answer,
        correct={name: _verdict(value) for name, value in correct.items() if name in scores},
    )


def _chance(samples: Sequence[Mapping[str, Any]]) -> float:
    """The accuracy of a random guess among the choices, or of the most frequent right choice, whichever is higher."""
    guess = math.fsum(1 / len(sample["arguments"]) for sample in samples) / len(samples)
    commonest = Counter(str(sample["target"]) for sample in samples).most_common(1)[0][1]
    return round(max(guess, commonest / len(samples)), 4)


def _key(metric: str, kind: str) -> str:
    return metric if kind == "none" else f"{metric},{kind}"


def _verdict(value: Any) -> bool | float:
    return bool(value) if value in (0, 1) else float(value)


def _is_choice(sample: Mapping[str, Any]) -> bool:
    """Whether the model chose among given continuations."""
    return len(sample["arguments"]) > 1 and not isinstance(sample["filtered_resps"][0], str)


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return hasattr(value, "__float__") and 0 <= value <= 1
