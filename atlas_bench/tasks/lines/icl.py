"""In-context learning, class by class: labelled examples fill the context, and an example without label is asked for.

    stone river apple cloud: window
    horse river paper ocean: window
    chair horse cloud linen: doctor         [.. 10M tokens of such lines ..]
    apple ocean stone paper:                                                                   -> window

The protocol's shape is that of many-shot in-context classification (LongICLBench, Li et al. 2024, arXiv 2404.02060;
the ICL part of HELMET, Yen et al. 2024, arXiv 2410.02694), streamed class by class as in class-incremental learning
(so tested by Nested Learning, Behrouz et al. 2025, arXiv 2512.24695). 14, 77 and 150 are the numbers of classes of
DBpedia, BANKING77 and CLINC150. A class is never stated: it has to be learnt from its examples while reading, and
kept while others are learnt. What differs from those:

data      Words instead of sentences of public sets: a class is 12 words of 512, an example any four of them in any
          order. Classes share words. Labels are words drawn again for each context, so that nothing known before
          helps; HELMET replaces labels by numbers for the same reason.
sessions  The context is divided in equal parts, and each part has the examples of its own classes alone: 2, 11 or 15
          of them. With the length grow both the examples of a class and the time since its last one.
queries   One of each class, in random order, each put to a fork of the state at the end. It has more words in common
          with the examples of its class than with those of any other, so that a reader who counts is always right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np

from atlas_bench.tasks.codewords import pick
from atlas_bench.tasks.lines.context import Template, chunks, drawn
from atlas_bench.tasks.lines.task import Asked, LineTask
from atlas_bench.tasks.mqar import exact
from atlas_bench.tasks.pairs import POOL, Vocabulary, bits, seed_of
from atlas_bench.types import Rules, Scorer, Tokenizer

SESSIONS = {"14": 7, "77": 7, "150": 10}  # classes -> parts of the context
CLASS_WORDS, SHOWN = 12, 4  # words of a class, and of an example
SHOTS = 8  # examples of a class in the shortest context, on average
TRIES = 50  # queries that are drawn until one is clear


@cache
def orders() -> np.ndarray:
    """Every choice of SHOWN out of CLASS_WORDS, in every order, int64 [n, SHOWN]."""
    return np.array(list(permutations(range(CLASS_WORDS), SHOWN)))


@dataclass(frozen=True)
class Examples:
    """The Source: line i is an example of a random class of its session.

    lines     of the context
    sessions  parts of it
    features  numbers of the words of each class [classes, CLASS_WORDS]
    labels    numbers of the words that name the classes [classes]
    """

    vocabulary: Vocabulary
    line: Template
    lines: int
    sessions: int
    features: np.ndarray
    labels: np.ndarray
    seed: int

    @property
    def key(self) -> str:
        """A hash of the vocabulary and of everything random."""
        return f"{self.vocabulary.key} {self.seed} {self.lines} {self.features.tolist()} {self.labels.tolist()}"

    def examples(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes [n], and numbers of the words [n, SHOWN], of lines first..last - 1."""
        random_bits, classes = drawn(self.seed, first, last), len(self.labels)
        session = np.arange(first, last) * self.sessions // self.lines
        low, high = session * classes // self.sessions, (session + 1) * classes // self.sessions
        which = low + (random_bits[:, 0] % (high - low).astype(np.uint64)).astype(np.int64)
        order = orders()[random_bits[:, 1] % np.uint64(len(orders()))]
        return which, self.features[which[:, None], order]

    def words(self, first: int, last: int) -> np.ndarray:
        """Token ids [last - first, SHOWN + 1]."""
        which, shown = self.examples(first, last)
        tokens = self.vocabulary.values.tokens[self.labels[which]]
        return np.column_stack([self.vocabulary.keys.tokens[shown], tokens])

    def known(self, lines: int) -> tuple[np.ndarray, np.ndarray]:
        """The words that each class has shown in the first lines, bool [classes, POOL], and its last line, or -1."""
        seen = np.zeros((len(self.labels), POOL), dtype=bool)
        latest = np.full(len(self.labels), -1)
        for first, last in chunks(lines):
            which, shown = self.examples(first, last)
            seen[which[:, None], shown] = True
            np.maximum.at(latest, which, np.arange(first, last))
        return seen, latest


class Icl(LineTask):
    """The task; implements types.Task."""

    name = "icl"
    subsets = tuple(SESSIONS)
    before = "Each line is an example, a few words, and the label of its class.\n"

    def rules(self, subset: str) -> Rules:
        """A label is one token; every class of a context is asked; chance is that of any one label."""
        return Rules(
            {"icl/exact": Scorer(exact)}, chance=1 / POOL, max_answer_tokens=1, questions_per_context=int(subset)
        )

    def line(self, length: int) -> tuple[str | None, ...]:
        """An example and its label."""
        return (*(None,) * SHOWN, ":", None, "\n")

    def least_lines(self, subset: str) -> int:
        """A few examples of every class."""
        return SHOTS * int(subset)

    def source(self, subset: str, tokenizer: Tokenizer, line: Template, lines: int, label: str) -> Examples:
        """Classes of random words with random labels."""
        classes = int(subset)
        features = bits(f"{label} words", classes * POOL).reshape(classes, POOL).argsort(axis=1, kind="stable")
        labels = bits(f"{label} labels", POOL).argsort(kind="stable")[:classes]
        sessions = SESSIONS[subset]
        return Examples(self.words(tokenizer), line, lines, sessions, features[:, :CLASS_WORDS], labels, seed_of(label))

    def asks(self, subset: str, source: Examples, lines: int, rng: random.Random) -> list[Asked]:
        """An example of each class that has been shown and can be distinguished from the others, in random order."""
        seen, latest = source.known(lines)
        shown = np.flatnonzero(latest >= 0).tolist()
        queries = [(each, _query(source, each, seen, rng)) for each in pick(rng, shown, len(shown))]
        return [_asked(source, each, query, int(latest[each])) for each, query in queries if query is not None]

    def describe(self) -> str:
        """What is measured, on what, by which scorers, with the pitfalls and an example."""
        return DESCRIPTION.format(words=CLASS_WORDS, shown=SHOWN, pool=POOL, chance=f"{1 / POOL:.2%}")


def _query(source: Examples, which: int, seen: np.ndarray, rng: random.Random) -> np.ndarray | None:
    """Words of an example whose class has shown more of them than any other; None if none of TRIES is such."""
    for _ in range(TRIES):
        words = source.features[which, orders()[int(rng.random() * len(orders()))]]
        common = seen[:, words].sum(axis=1)
        if (common >= common[which]).sum() == 1:
            return words
    return None


def _asked(source: Examples, which: int, query: np.ndarray, line: int) -> Asked:
    """The query; the last example of its class stands for all of them in the record."""
    text = "".join(f" {source.vocabulary.keys.words[word]}" for word in query.tolist())
    labels = source.vocabulary.values.words
    return Asked(f"{text}:", "", labels[source.labels[which]], (line,), {"labels": labels})


DESCRIPTION = """\
In-context learning, class by class: labelled examples, and an example without its label of each class (the form of
many-shot classification, as LongICLBench and HELMET ask, in class-incremental order).

subsets   14   14 classes in 7 sessions, as many as DBpedia has
          77   77 classes in 7 sessions, as BANKING77
          150  150 classes in 10 sessions, as CLINC150
source    a class is {words} of {pool} words, an example {shown} of these in any order, a label one of {pool} other
          words; single tokens of the model's own tokenizer
scorers   icl/exact (version 1)  the answer is the label
chance    {chance} (any one label, always)
pitfalls  Use --samples in multiples of the number of classes. The questions of one context are not independent.
          Who has read the labels and gives any of them is right once in as many times as there are classes.
          Longer contexts have more examples of each class, and longer ago: read the curve over lengths as both.
          From about 1M tokens on a query's words may have stood in just this order before.
          The record's fact of a question is the last example of its class.

stone river apple cloud: window [newline] chair horse cloud linen: doctor [newline] [...]
apple ocean stone paper: -> window"""


ICL = Icl()
