"""Training examples for MQAR: a context of pairs in noise, some of the keys known so far asked after each segment.

A lesson is laid out like the subset it is drawn for (in front or spread; one-word or longer keys) but has any
number of pairs up to the subset's. Its words are evaluation's words; its pairs are drawn from labels of its own,
so no lesson is an evaluation's context.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.tasks.pairs import Pairs, Vocabulary, lay_out, words_of_a_key

LARGEST = 128  # pairs of a lesson
ASKED = 16  # keys after a segment, at most


class MqarLessons:
    """An endless supply of lessons for some subsets, deterministic in `seed`.

    purpose  a word of the labels: lessons of two purposes have nothing in common
    """

    def __init__(self, subsets: Sequence[str], vocabulary: Vocabulary, seed: int, *, purpose: str = "lessons") -> None:
        self.subsets, self.vocabulary, self.purpose = subsets, vocabulary, purpose
        self.seeded(seed)

    def seeded(self, seed: int) -> MqarLessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"mqar {self.purpose} {seed}")
        return self

    def examinations(self) -> list[MqarLessons]:
        """Lessons that training never draws."""
        return [MqarLessons(self.subsets, self.vocabulary, 0, purpose="examination")]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, each followed by up to ASKED of the keys known by then."""
        context = self._context(length)
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            known = int(np.searchsorted(context.places, stop - context.width, side="right"))
            asked = self.rng.sample(range(known), min(ASKED, known))
            yield Segment(context.read(start, stop), tuple(_ask(context, i) for i in asked))

    def _context(self, length: int) -> Pairs:
        number, _, place = self.rng.choice(self.subsets).partition("-")
        key_words = words_of_a_key(int(number))
        most = min(int(number), LARGEST, length // (2 * (key_words + 1)))
        return lay_out(
            self.vocabulary,
            length,
            pairs=self.rng.randint(1, most),
            key_words=key_words,
            spread=place == "spread",
            label=f"mqar {self.purpose} {self.rng.getrandbits(128)}",
        )


def _ask(context: Pairs, i: int) -> Ask:
    return Ask(context.question(i), (int(context.vocabulary.values.tokens[context.values[i]]),))
