"""What a report keeps of a record: all of it but the answers, of which counts and a few examples remain.

    for each in digests(store.scan(["results"], warn)):
        each.record.model, each.contexts        # 'atlas-nano', 200
        each.depths[5]                          # Tally(correct=88.0, n=90): answers on facts in the middle
        each.wrong[0]["answer"]                 # 'garden'

So a report of 100,000 records is made in the memory of their head lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from atlas_bench.results.record import Record, clip
from atlas_bench.results.stats import Spread, spread

EXAMPLES = 2  # right and wrong answers kept of a record
EXAMPLES_OF = 5000  # records; of later ones none: no page shows so many
EXAMPLE_CHARS = 300

_OBJECTS = ("options", "scorer_version", "versions", "hardware")  # equal in most records of a run
_TEXTS = (
    "model", "weights_hash", "plan_hash", "corpus_key", "tokenizer_key", "data_hash", "prompt_hash", "chat_template",
    "kernel", "kernel_why", "command", "reason", "task", "subset", "headline", "memory", "device", "products",
)  # fmt: skip
_objects, _texts = attrgetter(*_OBJECTS), attrgetter(*_TEXTS)


class Tally(NamedTuple):
    """Answers counted: the sum of their scores, each in 0..1, and how many they are."""

    correct: float
    n: int


@dataclass(frozen=True, slots=True)
class Digest:
    """One record without its answers.

    record     its answers are empty
    contexts   independent contexts that its questions were asked on
    spreads    scorer -> how its scores lie over these
    depths     tenths of needle_depth, 0..10 -> tally
    distances  (distance, asked_at) in half decades of tokens -> tally
    along      whether something was asked before half of the length was read
    right      examples of right answers: question, targets, answer, clipped
    wrong      and of wrong ones
    """

    record: Record
    contexts: int
    spreads: dict[str, Spread]
    depths: dict[int, Tally]
    distances: dict[tuple[int, int], Tally]
    along: bool
    right: tuple[dict[str, Any], ...] = ()
    wrong: tuple[dict[str, Any], ...] = ()


def digests(records: Iterable[Record]) -> Iterator[Digest]:
    """The digest of each record, in their order; what repeats among them is kept once."""
    kept: dict[str, Any] = {}
    said: dict[Any, Any] = {}
    for number, record in enumerate(records):
        objects, texts = _objects(record), _texts(record)
        head = object.__new__(Record)  # dataclasses.replace at a fifth of its price: the fields are a record's already
        vars(head).update(vars(record), answers=[])
        vars(head).update(zip(_OBJECTS, map(kept.setdefault, map(repr, objects), objects), strict=True))
        vars(head).update(zip(_TEXTS, map(said.setdefault, texts, texts), strict=True))
        yield _digest(head, record.answers, EXAMPLES if number < EXAMPLES_OF else 0)


def _digest(head: Record, answers: Sequence[dict[str, Any]], examples: int) -> Digest:
    contexts, along = set(), False
    depths: dict[int, Tally] = {}
    distances: dict[tuple[int, int], Tally] = {}
    right: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    for answer in answers:
        contexts.add(unit(answer))
        read = answer.get("asked_at", head.length)
        along = along or read < head.length / 2
        score = answer["correct"].get(head.headline)
        if score is None:  # it has not been judged
            continue
        if "needle_depth" in answer:
            _count(depths, round(10 * answer["needle_depth"]), score)
        if "distance" in answer:
            _count(distances, (half_decade(answer["distance"]), half_decade(read)), score)
        shown = right if score >= 1 else wrong
        if len(shown) < examples:
            shown.append(_example(answer))
    return Digest(head, len(contexts), spreads(head, answers), depths, distances, along, tuple(right), tuple(wrong))


def unit(answer: dict[str, Any]) -> int:
    """The context of an answer: its own where it shares none."""
    return answer.get("context", answer["index"])


def spreads(record: Record, answers: Sequence[dict[str, Any]] | None = None) -> dict[str, Spread]:
    """Scorer -> how its scores lie over contexts; nothing of one whose answers are not all there."""
    answers = record.answers if answers is None else answers
    found = {}
    for name, score in record.scores.items():
        judged = [(unit(answer), float(answer["correct"][name])) for answer in answers if name in answer["correct"]]
        if judged and len(judged) == score["n"]:
            found[name] = spread(judged)._replace(anytime=is_sequential(record))
    return found


def is_sequential(record: Record) -> bool:
    """Whether the answers decided how many were asked, so that only a confidence sequence holds."""
    return "stopping" in record.protocol


def half_decade(tokens: int) -> int:
    """Twice the decimal logarithm, rounded: 100 -> 4, 316 -> 5, 1000 -> 6."""
    return round(2 * math.log10(max(tokens, 1)))


def _count(found: dict[Any, Tally], key: Any, score: float) -> None:
    before = found.get(key, Tally(0, 0))
    found[key] = Tally(before.correct + float(score), before.n + 1)


def _example(answer: dict[str, Any]) -> dict[str, Any]:
    texts = {name: clip(answer[name], EXAMPLE_CHARS) for name in ("question", "answer")}
    targets = [clip(str(target), EXAMPLE_CHARS) for target in answer["targets"][:5]]
    return {"index": answer["index"], **texts, "targets": targets}
