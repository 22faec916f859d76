"""Training examples for the MAD suite: a context, and after each segment some of what can be asked by then.

A lesson is made like the subset it is drawn for, with labels of its own, so that none is an evaluation's context.
Two differ as MAD's own training examples do: keys of the fuzzy subset have one to three words, where evaluation's
have three; and to copy, the words shown so far are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from atlas_bench.tasks.lessons import Ask, Segment
from atlas_bench.tasks.mad_contexts import Blocks
from atlas_bench.tasks.pairs import Vocabulary

ASKED = 16  # questions after a segment, at most


class MadLessons:
    """An endless supply of lessons for some subsets, deterministic in `seed`; implements Lessons.

    make     subset -> its context, of words, length and label
    purpose  a word of the labels: lessons of two purposes have nothing in common
    """

    def __init__(
        self,
        make: Mapping[str, Callable[[Vocabulary, int, str], Blocks]],
        words: Vocabulary,
        seed: int,
        *,
        purpose: str = "lessons",
    ) -> None:
        self.make, self.words, self.purpose = make, words, purpose
        self.seeded(seed)

    def seeded(self, seed: int) -> MadLessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"mad {self.purpose} {seed}")
        return self

    def examinations(self) -> list[MadLessons]:
        """Lessons that training never draws."""
        return [MadLessons(self.make, self.words, 0, purpose="examination")]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments, each followed by up to ASKED of the questions known by then."""
        subset = self.rng.choice(sorted(self.make))
        context = self.make[subset](self.words, length, f"mad {self.purpose} {self.rng.getrandbits(128)}")
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            asked = context.choose(self.rng, ASKED, stop)
            yield Segment(context.read(start, stop), tuple(Ask(one.question, one.answer) for one in asked))
