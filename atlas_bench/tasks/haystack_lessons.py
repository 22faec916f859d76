"""Training contexts for any task that hides facts in running text, a user's own among them.

A lesson hides the same kind of facts as an evaluation, in background that no evaluation reads. A short one hides the
first facts that leave room for background. If an answer stays right (`persistent_answer`), everything read so far is
asked after each segment, else only at the end. The drawn samples differ from every evaluation's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from atlas_bench.tasks.babilong_lessons import TRAINING_POOL, TRAINING_SHARDS
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.haystack import background, intersperse, place
from atlas_bench.tasks.hidden import Hidden, Question
from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.tasks.texts import Encoder
from atlas_bench.types import Tokenizer

ASKED = 8  # questions after a segment, at most
FILLED = 0.8  # share of a lesson that facts may take


class Hides(Protocol):
    """The members of a task that lessons use: see HaystackTask."""

    persistent_answer: bool

    def hide(self, subset: str, rng: random.Random, length: int) -> Hidden: ...


class HaystackLessons:
    """An endless supply of lessons for some subsets of a task over some corpora, deterministic in `seed`.

    purpose      a word of the labels: lessons of two purposes have nothing in common
    first_shard  of a generated corpus; evaluation uses the first ones
    """

    def __init__(
        self,
        task: Hides,
        subsets: Sequence[str],
        corpora: Sequence[Corpus],
        tokenizer: Tokenizer,
        seed: int,
        *,
        purpose: str = "lessons",
        first_shard: int = TRAINING_SHARDS,
    ) -> None:
        self.task, self.subsets, self.corpora, self.tokenizer = task, subsets, corpora, tokenizer
        self.purpose, self.first_shard, self.encode = purpose, first_shard, Encoder(tokenizer)
        self.seeded(seed)

    def seeded(self, seed: int) -> HaystackLessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"{self.purpose} {seed}")
        return self

    def examinations(self) -> list[HaystackLessons]:
        """Lessons of each corpus that training never draws, from shards that it never reads."""
        return [
            HaystackLessons(self.task, self.subsets, [each], self.tokenizer, 99, purpose="examination", first_shard=0)
            for each in dict.fromkeys(self.corpora)
        ]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, with what can be asked by then."""
        rng = self.rng
        subset, corpus = rng.choice(self.subsets), rng.choice(self.corpora)
        hidden = self.task.hide(subset, random.Random(f"{self.purpose} {rng.getrandbits(128)}"), length)
        before = self.encode(hidden.before)
        room, facts = int(FILLED * length) - len(before), []
        for fact in map(self.encode, hidden.facts):
            room -= len(fact)
            if room < 0:
                break
            facts.append(fact)
        first = self.first_shard if corpus.n_documents is None else 0
        left = length - len(before) - sum(map(len, facts))
        spans = background(corpus, left, rng, first_document=first, pool=TRAINING_POOL)
        if hidden.depths is None:
            context, at = intersperse(facts, spans, corpus, rng, prefix=before)
        else:
            context, at = place(facts, hidden.depths[: len(facts)], spans, corpus, prefix=before)
        ends = [a + len(fact) for a, fact in zip(at, facts, strict=True)]
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            known = sum(end <= stop for end in ends)
            askable = [q for q in hidden.questions if all(fact < known for fact in q.supporting)]
            if not self.task.persistent_answer and (stop < length or known < len(hidden.facts)):
                askable = []  # a later fact may change the answer
            asked = rng.sample(askable, min(ASKED, len(askable)))
            yield Segment(context.read(start, stop), tuple(map(self._ask, asked)))

    def _ask(self, question: Question) -> Ask:
        asked = (*self.encode(question.text), *self.encode(question.prefill))
        return Ask(asked, self.encode(f" {question.targets[0]}\n"))
