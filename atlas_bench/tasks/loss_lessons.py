"""Language modelling as lessons: running text, and at every token the token that follows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from atlas_bench.tasks.babilong_lessons import TRAINING_POOL, TRAINING_SHARDS
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.haystack import Pieces, background
from atlas_bench.tasks.lessons import Segment, Tags


class LossLessons:
    """An endless supply of running text from some corpora, deterministic in `seed`; implements Lessons.

    Texts that must not be seen are left out of the corpora; of generated text, training reads other shards than
    evaluation.
    """

    def __init__(self, corpora: Sequence[Corpus], seed: int) -> None:
        self.corpora = corpora
        self.seeded(seed)

    def seeded(self, seed: int) -> LossLessons:
        """These lessons, begun anew: what follows depends on the seed alone."""
        self.rng = random.Random(f"loss lessons {seed}")
        return self

    def examinations(self) -> list[LossLessons]:
        """None: a language model is examined on texts that were held out, by position (training/positions.py)."""
        return []

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments. Writing costs nothing: any token may be worth keeping."""
        corpus = self.rng.choice(self.corpora)
        first = TRAINING_SHARDS if corpus.n_documents is None else 0
        spans = background(corpus, length + 1, self.rng, first_document=first, pool=TRAINING_POOL)
        context = Pieces(corpus, spans)
        for start in range(0, length, segment):
            tokens = context.read(start, min(start + segment, length) + 1)
            every = np.ones(len(tokens) - 1, bool)
            yield Segment(tokens[:-1], (), free=every, tags=Tags(tokens[1:], scored=every, kind="text"))
