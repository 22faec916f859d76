"""A score as every table shows it: right answers, n, accuracy, the 95 % interval, contexts and their design effect.

score(record, "babilong/official")["low"]           # 0.839
scored(12, 22, Spread(2, 72.0, 132.0, 242.0))       # of counts alone
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas_bench.results.record import Record
from atlas_bench.results.stats import Spread, design_effect, interval, spread

UNKNOWN = Spread()  # of records without answers: their questions are taken as independent


def score(record: Record, scorer: str) -> dict[str, Any]:
    """The record's score by one of its scorers, see scored(), with the scorer's version."""
    found = record.scores[scorer]
    made = scored(found["correct"], int(found["n"]), spreads(record).get(scorer, UNKNOWN))
    return {"version": record.scorer_version.get(scorer)} | made


def scored(correct: float, n: int, spread: Spread = UNKNOWN) -> dict[str, Any]:
    """correct, n, accuracy, low, high, contexts (None: not known) and design_effect (None: none can be told)."""
    low, high = interval(correct, n, spread)
    return {
        "correct": correct,
        "n": n,
        "accuracy": correct / n if n else None,
        "low": low,
        "high": high,
        "contexts": spread.contexts or None,
        "design_effect": design_effect(correct, n, spread) if is_shared(spread.contexts, n) else None,
    }


def spreads(record: Record) -> dict[str, Spread]:
    """Scorer -> how its scores lie over contexts; nothing of one whose answers are not all there."""
    found = {}
    for name, score in record.scores.items():
        judged = [(unit(row), float(row["correct"][name])) for row in record.answers if name in row["correct"]]
        if judged and len(judged) == score["n"]:
            found[name] = spread(judged)._replace(anytime=is_sequential(record))
    return found


def is_sequential(record: Record) -> bool:
    """Whether the answers decided how many were asked, so that only a confidence sequence holds."""
    return "stopping" in record.protocol


def unit(answer: Mapping[str, Any]) -> int:
    """The context of an answer: its own where it shares none."""
    return int(answer.get("context", answer["index"]))


def outcome(record: Record) -> str:
    """'ok, 99.0 % (96.4-99.7), n=100': how a cell ended, with its headline's score, or its metrics, or why not."""
    if record.status != "ok":
        return f"{record.status}, {record.reason}" if record.reason else record.status
    if record.headline in record.scores:
        text = percent(score(record, record.headline))
    else:
        text = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items() if value is not None)
    return ", ".join(filter(None, ("ok", text))) + (f"; {record.note}" if record.note else "")


def is_shared(contexts: int | None, n: int | None) -> bool:
    """Whether several questions of a score share a context."""
    return 0 < (contexts or 0) < (n or 0)


def percent(score: dict[str, Any]) -> str:
    """'99.0 % (96.4-99.7), n=100 on 10 contexts': per cent, its 95 % interval, n; 'n=0' without an answer."""
    if not score["n"]:
        return "n=0"
    shared = is_shared(score["contexts"], score["n"])
    on = f" on {score['contexts']} context{'s' * (score['contexts'] != 1)}" if shared else ""
    low, high = 100 * score["low"], 100 * score["high"]
    return f"{100 * score['accuracy']:.1f} % ({low:.1f}-{high:.1f}), n={score['n']}{on}"
