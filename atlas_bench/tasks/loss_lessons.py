"""Language modelling as lessons: running text, and at every token the token that follows."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from atlas_bench.errors import UserError
from atlas_bench.tasks.babilong_lessons import TRAINING_POOL, TRAINING_SHARDS
from atlas_bench.tasks.corpora import DATA_SET_TOKENS, Corpus
from atlas_bench.tasks.haystack import Pieces, Span, background
from atlas_bench.tasks.lessons import Segment, Tags

WINDOW = 8  # documents of a streamed corpus, among which a context begins


class LossLessons:
    """An endless supply of running text from some corpora, deterministic in `seed`; implements Lessons.

    Texts that must not be seen are left out of the corpora; of generated text, training reads other shards than
    evaluation, and of a streamed corpus all but the first document.
    """

    reached = 0  # tokens read before this round

    def __init__(self, corpora: Sequence[Corpus], seed: int) -> None:
        self.corpora = corpora
        self.seeded(seed)

    def seeded(self, seed: int) -> LossLessons:
        """A fresh copy of these lessons: what follows depends only on the seed."""
        self.rng = random.Random(f"loss lessons {seed}")
        return self

    def examinations(self) -> list[LossLessons]:
        """None: a language model is examined on texts that were held out, by position (training/examine.py)."""
        return []

    def reach(self, tokens: int) -> None:
        """How many tokens were read before: a streamed corpus is gone on with."""
        self.reached = tokens

    def stream(self, length: int, segment: int) -> Iterator[Segment]:
        """One context of `length` tokens in segments. Writing costs nothing: any token may be worth keeping."""
        corpus = self.rng.choice(self.corpora)
        context = Pieces(corpus, self._spans(corpus, length + 1))
        for start in range(0, length, segment):
            tokens = context.read(start, min(start + segment, length) + 1)
            every = np.ones(len(tokens) - 1, bool)
            yield Segment(tokens[:-1], (), free=every, tags=Tags(tokens[1:], scored=every, kind="text"))

    def _spans(self, corpus: Corpus, length: int) -> list[Span]:
        """A run of text from a random sentence on."""
        if not corpus.streamed:
            first = TRAINING_SHARDS if corpus.n_documents is None else 0
            return background(corpus, length, self.rng, first_document=first, pool=TRAINING_POOL)
        number = 1 + self.reached // DATA_SET_TOKENS + self.rng.randrange(WINDOW)
        if not _tokens(corpus, number):  # the data set has ended before: once more from its beginning
            ended = bisect_left(range(1, number), True, key=lambda i: not _tokens(corpus, i))
            if not ended:
                raise UserError(f"'{corpus.name}' has no text behind its first 500 rows, which are held out.")
            number = 1 + (number - 1) % ended
        starts = corpus.document(number).starts
        start, spans = int(starts[int(self.rng.random() * (len(starts) - 1))]), []
        while length:
            stop = min(_tokens(corpus, number), start + length)
            spans.append(Span(number, start, stop))
            length -= stop - start
            number, start = (number + 1 if _tokens(corpus, number + 1) else 1), 0
        return spans


def _tokens(corpus: Corpus, number: int) -> int:
    """Tokens of a document."""
    return int(corpus.document(number).starts[-1])
