"""Training streams for `track`: every token that has an answer is supervised.

A lesson is made like the subset it is drawn for, with labels of its own, so that none is an evaluation's stream.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from atlas_bench.tasks.lessons import Segment, Tags
from atlas_bench.tasks.pairs import Vocabulary
from atlas_bench.tasks.track_streams import NONE, TaggedStream


class TrackLessons:
    """An endless supply of lessons for some subsets, deterministic in `seed`; implements Lessons.

    make     subset -> its stream, of words, length and label
    purpose  a word of the labels: lessons of two purposes have nothing in common
    """

    def __init__(
        self,
        make: Mapping[str, Callable[[Vocabulary, int, str], TaggedStream]],
        words: Vocabulary,
        seed: int,
        *,
        purpose: str = "lessons",
    ) -> None:
        self.make, self.words, self.purpose = make, words, purpose
        self.seeded(seed)

    def seeded(self, seed: int) -> TrackLessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"track {self.purpose} {seed}")
        return self

    def examinations(self) -> list[TrackLessons]:
        """Lessons that training never draws."""
        return [TrackLessons(self.make, self.words, 0, purpose="examination")]

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One stream of `length` tokens in segments; symbols that change the state are free to be written.

        A symbol that changes nothing, the 0 of parity, has a cost: gates learn to close on it, and a state that is not
        touched survives any length.
        """
        subset = self.rng.choice(sorted(self.make))
        stream = self.make[subset](self.words, length, f"track {self.purpose} {self.rng.getrandbits(128)}")
        for start in range(0, length, segment):
            stop = min(start + segment, length)
            answers = stream.answers(start, stop)
            tags = Tags(
                np.where(answers == NONE, NONE, self.words.values.tokens[answers]),
                scored=stream.scored(start, stop) & (answers != NONE),
                kind=subset,
            )
            yield Segment(stream.read(start, stop), (), free=stream.changes(start, stop), tags=tags)
