"""Scores: right answers, n, accuracy, the 95 % interval, contexts and their design effect.

score(record, "babilong/official")["low"]                   # 0.839
Score(12, 22, Spread(2, 72.0, 132.0, 242.0)).interval       # of counts alone
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from atlas_bench.results.naming import metrics_text
from atlas_bench.results.record import Record
from atlas_bench.stats.intervals import Spread, design_effect, interval, spread, together
from atlas_bench.units import counted

UNTRAINED = "the model was never trained for this"  # begins a record's note
UNKNOWN = Spread()  # of records without answers, whose questions count as independent


class Score(NamedTuple):
    """The sum of n scores in 0..1 by one scorer, and how they spread over contexts."""

    correct: float
    n: int
    spread: Spread = UNKNOWN

    @property
    def accuracy(self) -> float | None:
        """In 0..1; None without an answer."""
        return self.correct / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, over contexts where questions share them; (0, 1) without an answer."""
        return interval(self.correct, self.n, self.spread)

    @property
    def design_effect(self) -> float | None:
        """The score's variance over that of independent answers; None where questions share no context."""
        shared = is_shared(self.spread.contexts, self.n)
        return design_effect(self.correct, self.n, self.spread) if shared else None

    def facts(self) -> dict[str, Any]:
        """correct, n, accuracy, low, high, contexts (None: not known) and design_effect (None: not defined)."""
        low, high = self.interval
        return {
            "correct": self.correct, "n": self.n, "accuracy": self.accuracy, "low": low, "high": high,
            "contexts": self.spread.contexts or None, "design_effect": self.design_effect,
        }  # fmt: skip


def total(scores: Iterable[Score]) -> Score:
    """The score of several sets of answers together; they have no context in common."""
    found = list(scores)
    return Score(
        sum(score.correct for score in found), sum(score.n for score in found),
        together(score.spread for score in found),
    )  # fmt: skip


def scores(record: Record) -> dict[str, Score]:
    """Scorer -> its score, with an unknown spread where the record lacks some answers."""
    found = {}
    for name, counts in record.scores.items():
        judged = [(unit(row), float(row["correct"][name])) for row in record.answers if name in row["correct"]]
        whole = judged and len(judged) == counts["n"]
        spread_ = spread(judged)._replace(anytime=is_sequential(record)) if whole else UNKNOWN
        found[name] = Score(counts["correct"], int(counts["n"]), spread_)
    return found


def score(record: Record, scorer: str) -> dict[str, Any]:
    """The record's score by one of its scorers: Score.facts(), and the scorer's version."""
    return {"version": record.scorer_version.get(scorer)} | scores(record)[scorer].facts()


def is_sequential(record: Record) -> bool:
    """Whether the answers decided when to stop, so that only a confidence sequence is valid."""
    return "stopping" in record.protocol


def is_untrained(record: Record) -> bool:
    """Whether the model's card names what it was trained on, and that is not this task and subset."""
    return UNTRAINED in (record.note or "")


def interval_words(anytime: Iterable[bool]) -> str:
    """'95 % Wilson interval', or '95 % interval' where all scores have a confidence sequence.

    anytime  for each score, whether its answers decided when to stop
    """
    found = list(anytime)
    return "95 % interval" if found and all(found) else "95 % Wilson interval"


def mean_metrics(records: Sequence[Record]) -> dict[str, float]:
    """The mean over the records of each metric (nats per token, ..) that all of them have."""
    columns = {name: [record.metrics.get(name) for record in records] for name in records[0].metrics}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: fmean(values) for name, values in known.items() if len(values) == len(records)}


def unit(answer: Mapping[str, Any]) -> int:
    """The context of an answer: its own index where it shares no context."""
    return int(answer.get("context", answer["index"]))


def is_shared(contexts: int | None, n: int | None) -> bool:
    """Whether several questions of a score share a context."""
    return 0 < (contexts or 0) < (n or 0)


def outcome(record: Record) -> str:
    """'ok, 99.0 % (96.4-99.7), n=100': the status of a record, with its score, its metrics or its reason."""
    if record.status != "ok":
        return f"{record.status}, {record.reason}" if record.reason else record.status
    first = record.headline or ""
    text = percent(score(record, first)) if first in record.scores else metrics_text(record.metrics)
    return ", ".join(filter(None, ("ok", text))) + (f"; {record.note}" if record.note else "")


def percent(score: Mapping[str, Any]) -> str:
    """'99.0 % (96.4-99.7), n=100 on 10 contexts': per cent, its 95 % interval, n; 'n=0' without an answer."""
    if not score["n"]:
        return "n=0"
    accuracy, n, span = columns(score)
    shared = is_shared(score["contexts"], score["n"])
    on = f" on {counted(score['contexts'], 'context')}" if shared else ""
    return f"{accuracy} % ({span}), n={n}{on}"


def columns(score: Mapping[str, Any]) -> list[str]:
    """['99.0', '100', '96.4-99.7']: per cent, n and the 95 % interval; empty where they are not known."""
    if score["accuracy"] is None:
        return ["", "" if score["n"] is None else str(score["n"]), ""]
    return [f"{100 * score['accuracy']:.1f}", str(score["n"]), f"{100 * score['low']:.1f}-{100 * score['high']:.1f}"]
