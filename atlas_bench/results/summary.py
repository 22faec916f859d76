"""A record without its answers, of which counts and a few examples remain: what a report needs.

for each in summaries(store.scan(["results"], warn)):
    each.record.model, each.contexts        # 'atlas-nano', 200
    each.depths[5]                          # Score(correct=88.0, n=90): answers on facts in the middle
    each.wrong[0]["answer"]                 # 'garden'
    each.score("babilong/official")["low"]  # 0.839, the lower end of the 95 % interval
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atlas_bench.results.record import Record, clip
from atlas_bench.results.score import Score, is_sequential, scores, unit
from atlas_bench.stats.intervals import spread

EXAMPLES = 2  # right and wrong answers kept of a record
EXAMPLE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Summary:
    """One record without its answers.

    record     without answers
    contexts   number of independent contexts of its questions
    scores     scorer -> its score
    depths     tenths of needle_depth, 0..10 -> score, which takes questions as independent
    distances  (distance, asked_at) in half decades of tokens -> score, likewise
    along      whether a question was asked before half of the length was read
    right      examples of right answers: question, targets, answer, clipped
    wrong      examples of wrong answers
    """

    record: Record
    contexts: int
    scores: dict[str, Score]
    depths: dict[int, Score]
    distances: dict[tuple[int, int], Score]
    along: bool
    right: tuple[dict[str, Any], ...] = ()
    wrong: tuple[dict[str, Any], ...] = ()

    def score(self, scorer: str) -> dict[str, Any]:
        """The score as score.score() of the whole record returns it; counts alone where nothing was answered."""
        found = self.scores[scorer]
        numbers = found.facts() if found.n else {"correct": found.correct, "n": 0}
        return {"version": self.record.scorer_version.get(scorer)} | numbers

    @property
    def headline(self) -> Score:
        """The first scorer's score; 0 of 0 where there is none."""
        return self.scores.get(self.record.headline or "", Score(0, 0))


def summaries(records: Iterable[Record]) -> Iterator[Summary]:
    """The summary of each record, in order."""
    return map(summary, records)


def summary(record: Record) -> Summary:
    contexts, along = set(), False
    depths: dict[int, list[float]] = defaultdict(list)
    distances: dict[tuple[int, int], list[float]] = defaultdict(list)
    examples: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for answer in record.answers:
        contexts.add(unit(answer))
        read = answer.get("asked_at", record.length)
        along = along or read < record.length / 2
        score = answer["correct"].get(record.headline or "")
        if score is None:  # it has not been judged
            continue
        if "needle_depth" in answer:
            depths[round(10 * answer["needle_depth"])].append(float(score))
        if "distance" in answer:
            distances[half_decade(answer["distance"]), half_decade(read)].append(float(score))
        if len(shown := examples[score >= 1]) < EXAMPLES:
            shown.append(_example(answer))
    return Summary(
        replace(reported(record), answers=[]), len(contexts), scores(record), _counted(depths, record),
        _counted(distances, record), along,
        tuple(examples[True]), tuple(examples[False]),
    )  # fmt: skip


def reported(record: Record) -> Record:
    """The record with those costs alone that a report can show beside others'.

    What a server computes for has its memory there, so state and peak RSS would be the client's. A speed is that of a
    whole cell, so a cell that did not end well has none.
    """
    elsewhere = ("state_bytes", "peak_rss_bytes") if record.device == "server" else ()
    unfinished = () if record.status == "ok" else ("tokens_per_second",)
    unknown = dict.fromkeys((*elsewhere, *unfinished))
    return replace(record, **unknown) if unknown else record  # type: ignore[arg-type]  # all three may be None


def only(found: Iterable[Summary], *, tasks: Sequence[str] = (), models: Sequence[str] = ()) -> list[Summary]:
    """The summaries of some tasks ('babilong', 'babilong:qa1') and models; of all where none is named."""
    return [each for each in found if is_chosen(each.record, tasks, models)]


def is_chosen(record: Record, tasks: Sequence[str], models: Sequence[str]) -> bool:
    """Whether a record is of one of the tasks and models; of any where none is named."""
    named = {record.task, f"{record.task}:{record.subset}"}
    return (not tasks or bool(named & set(tasks))) and (not models or record.model in models)


def half_decade(tokens: int) -> int:
    """Twice the decimal logarithm, rounded: 100 -> 4, 316 -> 5, 1000 -> 6."""
    return round(2 * math.log10(max(tokens, 1)))


def _counted(found: Mapping[Any, Sequence[float]], record: Record) -> dict[Any, Score]:
    """The score of each part of the record's questions, which count as independent."""
    if not is_sequential(record):
        return {key: Score(sum(scores), len(scores)) for key, scores in found.items()}
    return {
        key: Score(sum(scores), len(scores), spread(enumerate(scores))._replace(anytime=True))
        for key, scores in found.items()
    }


def _example(answer: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: clip(answer[name], EXAMPLE_CHARS) for name in ("question", "answer")}
    targets = [clip(str(target), EXAMPLE_CHARS) for target in answer["targets"][:5]]
    return {"index": answer["index"], **texts, "targets": targets}
